use rule step as measure_units with:
    """Compare the units of every layer of one model with random directions."""
    input:
        unpack(inputs("measure_units")),
    output:
        **outputs("measure_units"),
    log:
        "<study>/logs/measure_units/{experiment}-{model}-seed{seed}.log",
    threads: study.config["threads"]["evaluate"]
    resources:
        **needs(4000, 60, gpu=gpus),
    params:
        **job("measure_units"),


use rule step as tabulate_units with:
    """Join the tests of all models and seeds of one experiment."""
    input:
        unpack(inputs("tabulate_units")),
    output:
        **outputs(
            "tabulate_units",
            html=shown("Szegedy et al. 2013", "Units and directions", table="{experiment}"),
        ),
    log:
        "<study>/logs/tabulate_units/{experiment}.log",
    params:
        **job("tabulate_units"),


use rule step as plot_units with:
    """Plot every direction of all families, and how units compare with random bases."""
    input:
        unpack(inputs("plot_units")),
    output:
        **outputs(
            "plot_units",
            figure=shown("Szegedy et al. 2013", "Units and directions", figure="{experiment}"),
        ),
    log:
        "<study>/logs/plot_units/{experiment}.log",
    params:
        **job("plot_units"),


use rule step as plot_top_images with:
    """Show the images that some units and some random directions respond to most."""
    input:
        unpack(inputs("plot_top_images")),
    output:
        **outputs(
            "plot_top_images",
            figure=shown(
                "Szegedy et al. 2013",
                "Units and directions",
                figure="top images, {experiment}",
                model="{model}",
            ),
        ),
    log:
        "<study>/logs/plot_top_images/{experiment}-{model}.log",
    resources:
        **needs(2000, 10),
    params:
        **job("plot_top_images"),
