rule train_model:
    """Train one model with one seed."""
    input:
        data="<study>/data.safetensors",
    output:
        model=MODEL,
    log:
        "<study>/logs/train_model/{model}-seed{seed}.log",
    conda:
        ENVIRONMENT
    threads: study.config["threads"]["train"]
    resources:
        mem_mb=growing(4000),
        runtime=240,
        gpu=gpus,
    params:
        spec=spec_of("train_model"),
        code=code_of("train_model"),
    shell:
        "python -m blindspots.steps.train_model --spec {params.spec:q} --code {params.code}"
        " --threads {threads} --data {input.data:q} --output {output.model:q} > {log:q} 2>&1"
