rule step:
    """What every step has; the others inherit it and say what differs."""
    log:
        "<study>/logs/step.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **needs(1000, 10),
    params:
        spec="",
        code="",
        module="",
        options="",
    shell:
        "python -m {params.module} --spec {params.spec:q} --code {params.code}"
        " --threads {threads} {params.options} {input:q} --to {output:q} > {log:q} 2>&1"
