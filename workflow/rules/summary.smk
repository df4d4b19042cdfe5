rule tabulate:
    """Make one table: CSV, Markdown, LaTeX and a web page."""
    input:
        transfer="<study>/transfer.csv",
        provenance="<study>/transfer.csv.json",
        answers="<study>/answers.safetensors",
        printed=printed_numbers,
    output:
        csv="<study>/tables/{table}.csv",
        markdown="<study>/tables/{table}.md",
        latex="<study>/tables/{table}.tex",
        html=report(
            "<study>/tables/{table}.html",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
        provenance="<study>/tables/{table}.csv.json",
    log:
        "<study>/logs/tabulate/{table}.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=10,
    params:
        spec=spec_of("tabulate"),
        code=code_of("tabulate"),
    shell:
        "python -m blindspots.steps.tabulate --spec {params.spec:q} --code {params.code}"
        " --transfer {input.transfer:q} --answers {input.answers:q}"
        " --printed {input.printed:q} --csv {output.csv:q} --markdown {output.markdown:q}"
        " --latex {output.latex:q} --html {output.html:q} > {log:q} 2>&1"


rule plot_transfer:
    """Plot the victim error of every pair of source and victim as heat maps."""
    input:
        transfer="<study>/transfer.csv",
        provenance="<study>/transfer.csv.json",
        answers="<study>/answers.safetensors",
    output:
        figure=report(
            "<study>/figures/transfer/{experiment}.svg",
            caption="../report/plot_transfer.rst",
            category="Figures",
            subcategory="Transfer",
            labels={"experiment": "{experiment}"},
        ),
        pdf="<study>/figures/transfer/{experiment}.pdf",
        provenance="<study>/figures/transfer/{experiment}.svg.json",
    log:
        "<study>/logs/plot_transfer/{experiment}.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=10,
    params:
        spec=spec_of("plot_transfer"),
        code=code_of("plot_transfer"),
    shell:
        "python -m blindspots.steps.plot_transfer --spec {params.spec:q} --code {params.code}"
        " --transfer {input.transfer:q} --answers {input.answers:q} --output {output.figure:q}"
        " --pdf {output.pdf:q} > {log:q} 2>&1"


rule plot_error_curves:
    """Plot victim error against RMS distortion, beside Gaussian noise."""
    input:
        transfer="<study>/transfer.csv",
        provenance="<study>/transfer.csv.json",
        answers="<study>/answers.safetensors",
    output:
        figure=report(
            "<study>/figures/error_curves/{experiment}.svg",
            caption="../report/plot_error_curves.rst",
            category="Figures",
            subcategory="Error curves",
            labels={"experiment": "{experiment}"},
        ),
        pdf="<study>/figures/error_curves/{experiment}.pdf",
        provenance="<study>/figures/error_curves/{experiment}.svg.json",
    log:
        "<study>/logs/plot_error_curves/{experiment}.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=10,
    params:
        spec=spec_of("plot_error_curves"),
        code=code_of("plot_error_curves"),
    shell:
        "python -m blindspots.steps.plot_error_curves --spec {params.spec:q} --code {params.code}"
        " --transfer {input.transfer:q} --answers {input.answers:q} --output {output.figure:q}"
        " --pdf {output.pdf:q} > {log:q} 2>&1"


rule plot_distortions:
    """Plot the distributions of the RMS distortions of adversarial images."""
    input:
        sets=sets_of_experiment,
    output:
        figure=report(
            "<study>/figures/distortions/{experiment}.svg",
            caption="../report/plot_distortions.rst",
            category="Figures",
            subcategory="Distortions",
            labels={"experiment": "{experiment}"},
        ),
        pdf="<study>/figures/distortions/{experiment}.pdf",
        provenance="<study>/figures/distortions/{experiment}.svg.json",
    log:
        "<study>/logs/plot_distortions/{experiment}.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=10,
    params:
        spec=spec_of("plot_distortions"),
        code=code_of("plot_distortions"),
    shell:
        "python -m blindspots.steps.plot_distortions --spec {params.spec:q} --code {params.code}"
        " --sets {input.sets:q} --output {output.figure:q} --pdf {output.pdf:q} > {log:q} 2>&1"


rule plot_adversarial_examples:
    """Show adversarial images of one model beside their originals."""
    input:
        data="<study>/data.safetensors",
        adversarial=set_of_grid,
    output:
        figure=report(
            "<study>/figures/adversarial_examples/{grid}.png",
            caption="../report/plot_adversarial_examples.rst",
            category="Figures",
            subcategory="Examples",
            labels={"figure": "{grid}, adversarial"},
        ),
        pdf="<study>/figures/adversarial_examples/{grid}.pdf",
        provenance="<study>/figures/adversarial_examples/{grid}.png.json",
    log:
        "<study>/logs/plot_adversarial_examples/{grid}.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=10,
    params:
        spec=spec_of("plot_adversarial_examples"),
        code=code_of("plot_adversarial_examples"),
    shell:
        "python -m blindspots.steps.plot_adversarial_examples --spec {params.spec:q}"
        " --code {params.code} --data {input.data:q} --set {input.adversarial:q}"
        " --output {output.figure:q} --pdf {output.pdf:q} > {log:q} 2>&1"


rule plot_noise_examples:
    """Show images with Gaussian noise beside their originals."""
    input:
        data="<study>/data.safetensors",
    output:
        figure=report(
            "<study>/figures/noise_examples/{grid}.png",
            caption="../report/plot_noise_examples.rst",
            category="Figures",
            subcategory="Examples",
            labels={"figure": "{grid}, noisy"},
        ),
        pdf="<study>/figures/noise_examples/{grid}.pdf",
        provenance="<study>/figures/noise_examples/{grid}.png.json",
    log:
        "<study>/logs/plot_noise_examples/{grid}.log",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=10,
    params:
        spec=spec_of("plot_noise_examples"),
        code=code_of("plot_noise_examples"),
    shell:
        "python -m blindspots.steps.plot_noise_examples --spec {params.spec:q}"
        " --code {params.code} --data {input.data:q} --output {output.figure:q} --pdf {output.pdf:q} > {log:q} 2>&1"
