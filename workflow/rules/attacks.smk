rule generate_adversarial_set:
    """Attack one model on the images that it classifies correctly."""
    input:
        data="<study>/data.safetensors",
        model=MODEL,
    output:
        adversarial=SET,
    log:
        "<study>/logs/generate_adversarial_set/{model}-seed{seed}-{attack}.log",
    wildcard_constraints:
        attack=either(study.attacks_in_parts(False)),
    conda:
        ENVIRONMENT
    threads: study.config["threads"]["attack"]
    resources:
        mem_mb=growing(4000),
        runtime=240,
        gpu=gpus,
    params:
        spec=spec_of("generate_adversarial_set"),
        code=code_of("generate_adversarial_set"),
    shell:
        "python -m blindspots.steps.generate_adversarial_set --spec {params.spec:q}"
        " --code {params.code} --threads {threads} --data {input.data:q} --model {input.model:q}"
        " --output {output.adversarial:q} > {log:q} 2>&1"


rule generate_part_of_adversarial_set:
    """Attack one model on some of the images that it classifies correctly."""
    input:
        data="<study>/data.safetensors",
        model=MODEL,
    output:
        adversarial=temp(PART),
    log:
        "<study>/logs/generate_adversarial_set/{model}-seed{seed}-{attack}.parts/{part}.log",
    wildcard_constraints:
        attack=either(study.attacks_in_parts(True)),
    conda:
        ENVIRONMENT
    threads: study.config["threads"]["attack"]
    resources:
        mem_mb=growing(4000),
        runtime=240,
        gpu=gpus,
    params:
        spec=spec_of("attack_part"),
        code=code_of("generate_adversarial_set"),
    shell:
        "python -m blindspots.steps.generate_adversarial_set --spec {params.spec:q}"
        " --code {params.code} --threads {threads} --data {input.data:q} --model {input.model:q}"
        " --output {output.adversarial:q} > {log:q} 2>&1"


rule gather_adversarial_set:
    """Join the parts of an adversarial set; it is the one that a single job would have made."""
    input:
        parts=parts_of_set,
    output:
        adversarial=SET,
    log:
        "<study>/logs/gather_adversarial_set/{model}-seed{seed}-{attack}.log",
    wildcard_constraints:
        attack=either(study.attacks_in_parts(True)),
    conda:
        ENVIRONMENT
    threads: study.config["threads"]["attack"]
    resources:
        mem_mb=growing(4000),
        runtime=30,
    params:
        spec=spec_of("generate_adversarial_set"),
        code=code_of("generate_adversarial_set"),
    shell:
        "python -m blindspots.steps.gather_adversarial_set --spec {params.spec:q}"
        " --code {params.code} --threads {threads} --parts {input.parts:q}"
        " --output {output.adversarial:q} > {log:q} 2>&1"


rule check_engines:
    """Compare the engines of the study with the closed form on a linear softmax."""
    output:
        csv="<study>/engines.csv",
        html=report(
            "<study>/engines.html",
            caption="../report/engines.rst",
            category="Checks",
            labels={"check": "engines against the closed form"},
        ),
        provenance="<study>/engines.csv.json",
    log:
        "<study>/logs/check_engines.log",
    conda:
        ENVIRONMENT
    threads: study.config["threads"]["attack"]
    resources:
        mem_mb=growing(2000),
        runtime=30,
        gpu=gpus,
    params:
        spec=spec_of("check_engines"),
        code=code_of("check_engines"),
    shell:
        "python -m blindspots.steps.check_engines --spec {params.spec:q} --code {params.code}"
        " --threads {threads} --csv {output.csv:q} --html {output.html:q} > {log:q} 2>&1"
