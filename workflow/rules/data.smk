rule prepare_data:
    """Read and check the data set."""
    output:
        data="<study>/data.safetensors",
    log:
        "<study>/logs/prepare_data.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=60,
    params:
        spec=spec_of("prepare_data"),
        code=code_of("prepare_data"),
        root=untracked(study.data_root),
        download=untracked(DOWNLOAD),
    shell:
        "python -m blindspots.steps.prepare_data --spec {params.spec:q} --code {params.code}"
        " --root {params.root:q} --download {params.download}"
        " --output {output.data:q} > {log:q} 2>&1"
