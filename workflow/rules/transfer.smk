rule evaluate_transfer:
    """Evaluate one adversarial set on every victim, as found and amplified."""
    input:
        data="<study>/data.safetensors",
        adversarial=SET,
        source=MODEL,
        victims=victims_of_row,
    output:
        row=ROW,
    log:
        "<study>/logs/evaluate_transfer/{model}-seed{seed}-{attack}.log",
    conda:
        ENVIRONMENT
    threads: study.config["threads"]["evaluate"]
    resources:
        mem_mb=growing(4000),
        runtime=60,
        gpu=gpus,
    params:
        spec=spec_of("evaluate_transfer"),
        code=code_of("evaluate_transfer"),
    shell:
        "python -m blindspots.steps.evaluate_transfer --spec {params.spec:q} --code {params.code}"
        " --threads {threads} --data {input.data:q} --set {input.adversarial:q}"
        " --source {input.source:q} --victims {input.victims:q}"
        " --output {output.row:q} > {log:q} 2>&1"


rule evaluate_noise:
    """Evaluate clean and noisy images of one split on every victim."""
    input:
        data="<study>/data.safetensors",
        victims=victims_of_pool,
    output:
        row=NOISE_ROW,
    log:
        "<study>/logs/evaluate_noise/{pool}-seed{seed}.log",
    conda:
        ENVIRONMENT
    threads: study.config["threads"]["evaluate"]
    resources:
        mem_mb=growing(4000),
        runtime=60,
        gpu=gpus,
    params:
        spec=spec_of("evaluate_noise"),
        code=code_of("evaluate_noise"),
    shell:
        "python -m blindspots.steps.evaluate_noise --spec {params.spec:q} --code {params.code}"
        " --threads {threads} --data {input.data:q} --victims {input.victims:q}"
        " --output {output.row:q} > {log:q} 2>&1"


ruleorder: evaluate_noise > evaluate_transfer


rule collect_transfer:
    """Join all rows into the tidy transfer table, and the answers to single images behind it."""
    input:
        rows=paths_of(study.row_jobs),
    output:
        transfer=report(
            "<study>/transfer.csv",
            caption="../report/transfer.rst",
            category="Data",
            labels={"file": "transfer.csv"},
        ),
        provenance="<study>/transfer.csv.json",
        answers="<study>/answers.safetensors",
    log:
        "<study>/logs/collect_transfer.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=10,
    params:
        spec=spec_of("collect_transfer"),
        code=code_of("collect_transfer"),
    shell:
        "python -m blindspots.steps.collect_transfer --spec {params.spec:q} --code {params.code}"
        " --rows {input.rows:q} --csv {output.transfer:q} --output {output.answers:q}"
        " > {log:q} 2>&1"
