"""`profile`: measured rates of this machine for the planner."""

from pathlib import Path

from absl import flags

from jaxrank.commands.streams import printing
from jaxrank.commands.terminal import make_console
from jaxrank.errors import UserError

EXAMPLE = "--device_profile=this_machine.json"


def define(values: flags.FlagValues, words: list[str]) -> None:
    del words  # this command has no config
    flags.DEFINE_string(
        "device_profile",
        None,
        "new file for the rates, such as this_machine.json",
        flag_values=values,
    )


def run(values: flags.FlagValues, config: None) -> int:
    """Measures the speed of a device (the median over all devices) while all devices are busy, in
    half a minute, and writes it to a file with which 'search --device_profile=FILE' plans. Nothing
    else should run meanwhile."""
    del config
    if not values.device_profile:
        raise UserError("--device_profile is missing: name the file to write")
    path = Path(values.device_profile)
    try:
        is_there = path.exists()
    except OSError as error:
        raise UserError(f"--device_profile={path}: can't be used ({error.strerror})") from None
    if is_there or not path.parent.is_dir():
        reason = "is there already" if is_there else "its folder does not exist"
        raise UserError(f"--device_profile={path}: {reason}; name a new file")

    from jaxrank import devices
    from jaxrank.reporting.fitted_table import show_lines
    from jaxrank.runner import device_profile
    from jaxrank.training import jax_settings

    jax_settings.choose_deterministic_kernels()
    devices.split_cpu_into_devices()
    console = make_console(values)

    profile, timings = device_profile.profile_device()
    device_profile.write_device_profile(path, profile)
    with printing(path):
        for timing in timings:
            predicted = profile.seconds(timing.work)
            show_lines(
                console,
                f"{timing.shape}: an epoch takes {timing.epoch_seconds:.3f} s, predicted "
                f"{predicted:.3f} s; loading and compiling took {timing.compile_seconds:.1f} s",
            )
        show_lines(
            console,
            f"{path}: {profile.flops_per_second / 1e9:,.0f} GFLOP/s, "
            f"{profile.bytes_per_second / 1e9:,.0f} GB/s, {1e6 * profile.step_seconds:,.0f} us "
            f"a step, {profile.compile_seconds:.1f} s a compilation",
        )
    return 0
