use rule step as measure_amplification with:
    """Measure how much each layer of one network, trained and not, stretches perturbations."""
    input:
        unpack(inputs("measure_amplification")),
    output:
        **outputs("measure_amplification"),
    log:
        "<study>/logs/measure_amplification/{experiment}-{model}-seed{seed}.log",
    threads: study.config["threads"]["attack"]
    resources:
        **needs(4000, 120, gpu=gpus),
    params:
        **job("measure_amplification"),


use rule step as tabulate_amplification with:
    """Join what the layers of all networks of one experiment do."""
    input:
        unpack(inputs("tabulate_amplification")),
    output:
        **outputs(
            "tabulate_amplification",
            html=shown("Szegedy et al. 2013", "Amplification", table="{experiment}"),
        ),
    log:
        "<study>/logs/tabulate_amplification/{experiment}.log",
    params:
        **job("tabulate_amplification"),


use rule step as plot_gains with:
    """Plot the gain of each perturbation by depth."""
    input:
        unpack(inputs("plot_gains")),
    output:
        **outputs(
            "plot_gains",
            figure=shown("Szegedy et al. 2013", "Amplification", figure="{experiment}, gain"),
        ),
    log:
        "<study>/logs/plot_gains/{experiment}.log",
    params:
        **job("plot_gains"),


use rule step as plot_displacements with:
    """Plot the relative displacement by each perturbation by depth."""
    input:
        unpack(inputs("plot_displacements")),
    output:
        **outputs(
            "plot_displacements",
            figure=shown(
                "Szegedy et al. 2013", "Amplification", figure="{experiment}, displacement"
            ),
        ),
    log:
        "<study>/logs/plot_displacements/{experiment}.log",
    params:
        **job("plot_displacements"),
