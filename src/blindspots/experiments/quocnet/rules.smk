use rule step as measure_detector with:
    """Measure how well one detector tells images apart, and what deceives it."""
    input:
        unpack(inputs("measure_detector")),
    output:
        **outputs("measure_detector"),
    log:
        "<study>/logs/measure_detector/{experiment}/{model}-seed{seed}.log",
    threads: study.config["threads"]["evaluate"]
    resources:
        **needs(4000, 60, gpu=gpus),
    params:
        **job("measure_detector"),


use rule step as tabulate_detectors with:
    """Join what is known of the detectors of one experiment."""
    input:
        unpack(inputs("tabulate_detectors")),
    output:
        **outputs(
            "tabulate_detectors",
            html=shown("Szegedy et al. 2013", "QuocNet", table="{experiment}"),
        ),
    log:
        "<study>/logs/tabulate_detectors/{experiment}.log",
    params:
        **job("tabulate_detectors"),


use rule step as plot_detectors with:
    """Plot how good the detectors of one experiment are, and how little deceives them."""
    input:
        unpack(inputs("plot_detectors")),
    output:
        **outputs(
            "plot_detectors",
            figure=shown("Szegedy et al. 2013", "QuocNet", figure="{experiment}"),
        ),
    log:
        "<study>/logs/plot_detectors/{experiment}.log",
    params:
        **job("plot_detectors"),


use rule step as plot_detector_examples with:
    """Show images that deceive a detector beside their originals."""
    input:
        unpack(inputs("plot_detector_examples")),
    output:
        **outputs(
            "plot_detector_examples",
            figure=shown("Szegedy et al. 2013", "QuocNet", figure="{experiment}, examples"),
        ),
    log:
        "<study>/logs/plot_detector_examples/{experiment}.log",
    params:
        **job("plot_detector_examples"),
