use rule step as generate_adversarial_set with:
    """Attack one model on the images that it classifies correctly."""
    input:
        unpack(inputs("generate_adversarial_set")),
    output:
        **outputs("generate_adversarial_set"),
    log:
        "<study>/logs/generate_adversarial_set/{model}-seed{seed}-{attack}.log",
    wildcard_constraints:
        attack=in_parts(False),
    threads: study.config["threads"]["attack"]
    resources:
        **needs(4000, 240, gpu=gpus),
    params:
        **job("generate_adversarial_set"),


use rule generate_adversarial_set as generate_part_of_adversarial_set with:
    """Attack one model on some of the images that it classifies correctly."""
    input:
        unpack(inputs("generate_part_of_adversarial_set")),
    output:
        **outputs("generate_part_of_adversarial_set", adversarial=temp),
    log:
        "<study>/logs/generate_adversarial_set/{model}-seed{seed}-{attack}.parts/{part}.log",
    wildcard_constraints:
        attack=in_parts(True),
    params:
        **job("generate_part_of_adversarial_set"),


use rule step as gather_adversarial_set with:
    """Join the parts of an adversarial set; it is the one that a single job would have made."""
    input:
        unpack(inputs("gather_adversarial_set")),
    output:
        **outputs("gather_adversarial_set"),
    log:
        "<study>/logs/gather_adversarial_set/{model}-seed{seed}-{attack}.log",
    wildcard_constraints:
        attack=in_parts(True),
    threads: study.config["threads"]["attack"]
    resources:
        **needs(4000, 30),
    params:
        **job("gather_adversarial_set"),


use rule step as check_engines with:
    """Compare the engines of the study with the closed form on a linear softmax."""
    output:
        **outputs(
            "check_engines",
            html=shown("Checks", None, check="engines against the closed form"),
        ),
    log:
        "<study>/logs/check_engines.log",
    threads: study.config["threads"]["attack"]
    resources:
        **needs(2000, 30, gpu=gpus),
    params:
        **job("check_engines"),
