use rule step as measure_frames with:
    """Bound from both sides how much each layer of one model stretches its input."""
    input:
        unpack(inputs("measure_frames")),
    output:
        **outputs("measure_frames"),
    log:
        "<study>/logs/measure_frames/{model}-seed{seed}.log",
    threads: study.config["threads"]["evaluate"]
    resources:
        **needs(4000, 60),
    params:
        **job("measure_frames"),


use rule step as tabulate_frames with:
    """Join the bounds of all models of one experiment, and show them beside print."""
    input:
        unpack(inputs("tabulate_frames")),
    output:
        **outputs(
            "tabulate_frames",
            html=shown("Szegedy et al. 2013", "Frame bounds", table="{experiment}"),
        ),
    log:
        "<study>/logs/tabulate_frames/{experiment}.log",
    params:
        **job("tabulate_frames"),


use rule step as plot_frames with:
    """Plot the bounds of every layer, and their product."""
    input:
        unpack(inputs("plot_frames")),
    output:
        **outputs(
            "plot_frames",
            figure=shown("Szegedy et al. 2013", "Frame bounds", figure="{experiment}"),
        ),
    log:
        "<study>/logs/plot_frames/{experiment}.log",
    params:
        **job("plot_frames"),
