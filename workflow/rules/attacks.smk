rule generate_adversarial_set:
    """Attack one model on the images that it classifies correctly."""
    input:
        data="<study>/data.safetensors",
        model=MODEL,
    output:
        adversarial=SET,
    log:
        "<study>/logs/generate_adversarial_set/{model}-seed{seed}-{attack}.log",
    conda:
        ENVIRONMENT
    threads: study.config["threads"]["attack"]
    resources:
        mem_mb=4000,
        runtime=240,
        gpu=gpus,
    params:
        spec=spec_of("generate_adversarial_set"),
        code=code_of("generate_adversarial_set"),
    shell:
        "python -m blindspots.steps.generate_adversarial_set --spec {params.spec:q}"
        " --code {params.code} --threads {threads} --data {input.data:q} --model {input.model:q}"
        " --output {output.adversarial:q} > {log:q} 2>&1"
