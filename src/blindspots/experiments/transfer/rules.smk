PAPER = "Szegedy et al. 2013"


use rule step as evaluate_transfer with:
    """Evaluate one adversarial set on every victim, as found and in other variants."""
    input:
        unpack(inputs("evaluate_transfer")),
    output:
        **outputs("evaluate_transfer"),
    log:
        "<study>/logs/evaluate_transfer/{model}-seed{seed}-{attack}.log",
    wildcard_constraints:
        model="(?!noise/)[A-Za-z][A-Za-z0-9_-]*",
    threads: study.config["threads"]["evaluate"]
    resources:
        **needs(4000, 60, gpu=gpus),
    params:
        **job("evaluate_transfer"),


use rule step as evaluate_noise with:
    """Evaluate clean and noisy images of one split on every victim."""
    input:
        unpack(inputs("evaluate_noise")),
    output:
        **outputs("evaluate_noise"),
    log:
        "<study>/logs/evaluate_noise/{pool}-seed{seed}.log",
    threads: study.config["threads"]["evaluate"]
    resources:
        **needs(4000, 60, gpu=gpus),
    params:
        **job("evaluate_noise"),


use rule step as collect_transfer with:
    """Join all rows into the tidy transfer table, and the answers to single images behind it."""
    input:
        unpack(inputs("collect_transfer")),
    output:
        **outputs(
            "collect_transfer",
            transfer=shown(PAPER, "Data", file="transfer.csv"),
        ),
    log:
        "<study>/logs/collect_transfer.log",
    params:
        **job("collect_transfer"),


use rule step as tabulate with:
    """Make one table: CSV, Markdown, LaTeX and a web page."""
    input:
        unpack(inputs("tabulate")),
    output:
        **outputs("tabulate", html=shown(PAPER, "Tables", table="{table}")),
    log:
        "<study>/logs/tabulate/{table}.log",
    params:
        **job("tabulate"),


use rule step as measure_storage with:
    """Measure the margins of one adversarial set, and those that it needs to be stored."""
    input:
        unpack(inputs("measure_storage")),
    output:
        **outputs("measure_storage"),
    log:
        "<study>/logs/measure_storage/{model}-seed{seed}-{attack}.log",
    threads: study.config["threads"]["evaluate"]
    resources:
        **needs(4000, 30, gpu=gpus),
    params:
        **job("measure_storage"),


use rule step as tabulate_storage with:
    """Show how many adversarial images survive being stored: CSV, Markdown and a web page."""
    input:
        unpack(inputs("tabulate_storage")),
    output:
        **outputs("tabulate_storage", html=shown(PAPER, "Storage", table="{experiment}")),
    log:
        "<study>/logs/tabulate_storage/{experiment}.log",
    params:
        **job("tabulate_storage"),


use rule step as plot_transfer with:
    """Plot the victim error of every pair of source and victim as heat maps."""
    input:
        unpack(inputs("plot_transfer")),
    output:
        **outputs(
            "plot_transfer",
            figure=shown(PAPER, "Transfer", experiment="{experiment}"),
        ),
    log:
        "<study>/logs/plot_transfer/{experiment}.log",
    params:
        **job("plot_transfer"),


use rule step as plot_error_curves with:
    """Plot victim error against RMS distortion, beside Gaussian noise."""
    input:
        unpack(inputs("plot_error_curves")),
    output:
        **outputs(
            "plot_error_curves",
            figure=shown(PAPER, "Error curves", experiment="{experiment}"),
        ),
    log:
        "<study>/logs/plot_error_curves/{experiment}.log",
    params:
        **job("plot_error_curves"),


use rule step as plot_distortions with:
    """Plot the distributions of the RMS distortions of adversarial images."""
    input:
        unpack(inputs("plot_distortions")),
    output:
        **outputs(
            "plot_distortions",
            figure=shown(PAPER, "Distortions", experiment="{experiment}"),
        ),
    log:
        "<study>/logs/plot_distortions/{experiment}.log",
    resources:
        **needs(2000, 10),
    params:
        **job("plot_distortions"),


use rule step as plot_adversarial_examples with:
    """Show adversarial images of one model beside their originals, as found or stored."""
    input:
        unpack(inputs("plot_adversarial_examples")),
    output:
        **outputs(
            "plot_adversarial_examples",
            figure=shown(PAPER, "Examples", figure="{grid}, adversarial"),
        ),
    log:
        "<study>/logs/plot_adversarial_examples/{grid}.log",
    resources:
        **needs(2000, 10),
    params:
        **job("plot_adversarial_examples"),


use rule step as plot_noise_examples with:
    """Show images with Gaussian noise beside their originals."""
    input:
        unpack(inputs("plot_noise_examples")),
    output:
        **outputs(
            "plot_noise_examples",
            figure=shown(PAPER, "Examples", figure="{grid}, noisy"),
        ),
    log:
        "<study>/logs/plot_noise_examples/{grid}.log",
    resources:
        **needs(2000, 10),
    params:
        **job("plot_noise_examples"),
