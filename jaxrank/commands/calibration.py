"""`calibrate`: the profile of this machine, for the planner."""

from pathlib import Path

from absl import flags

from jaxrank.errors import UserError


def define_calibrate(values: flags.FlagValues, words: list[str]) -> None:
    del words  # no config here
    flags.DEFINE_string(
        "calibration",
        None,
        "new file for the profile, such as this_machine.json",
        flag_values=values,
    )


def calibrate(values: flags.FlagValues, config: None) -> int:
    """Measures what this machine does, in half a minute, and writes it to a file with which
    'search --calibration=FILE' plans. Nothing else should run meanwhile."""
    del config
    if not values.calibration:
        raise UserError("--calibration is missing: name the file to write")
    path = Path(values.calibration)
    if path.exists() or not path.parent.is_dir():
        reason = "is there already" if path.exists() else "its folder does not exist"
        raise UserError(f"--calibration={path}: {reason}; name a new file")

    from jaxrank import calibration

    profile, timings = calibration.calibrate()
    for timing in timings:
        predicted = profile.seconds(timing.work)
        print(
            f"{timing.shape}: an epoch takes {timing.epoch_seconds:.3f} s, predicted "
            f"{predicted:.3f} s; loading and compiling took {timing.compile_seconds:.1f} s"
        )
    calibration.write_calibration(path, profile)
    print(
        f"{path}: {profile.flops_per_second / 1e9:,.0f} GFLOP/s, "
        f"{profile.bytes_per_second / 1e9:,.0f} GB/s, {1e6 * profile.step_seconds:,.0f} us a step, "
        f"{profile.compile_seconds:.1f} s a compilation"
    )
    return 0
