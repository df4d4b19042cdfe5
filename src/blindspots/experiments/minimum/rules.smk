use rule step as tabulate_minimum with:
    """Show how small the distortions of some sets are, and which of them survive 8 bits."""
    input:
        unpack(inputs("tabulate_minimum")),
    output:
        **outputs(
            "tabulate_minimum",
            html=shown("Szegedy et al. 2013", "Smallest distortions", table="{experiment}"),
        ),
    log:
        "<study>/logs/tabulate_minimum/{experiment}.log",
    resources:
        **needs(2000, 10),
    params:
        **job("tabulate_minimum"),


use rule step as plot_minimum with:
    """Show images, their magnified distortions and what became of them: figure 5."""
    input:
        unpack(inputs("plot_minimum")),
    output:
        **outputs(
            "plot_minimum",
            figure=shown(
                "Szegedy et al. 2013",
                "Smallest distortions",
                figure="{experiment}: {model}, {attack}",
            ),
        ),
    log:
        "<study>/logs/plot_minimum/{experiment}-{model}-{attack}.log",
    resources:
        **needs(2000, 10),
    params:
        **job("plot_minimum"),
