"""Shell completion of commands, flags and values."""

from collections.abc import Mapping

from absl import flags

from jaxrank.errors import UserError, did_you_mean

# After a flag, the scripts complete its fixed values, or else files and folders.
_BASH = """\
# Completion of jaxrank for bash: source <(jaxrank --completion=bash)
_jaxrank() {{
  local line="${{COMP_LINE:0:COMP_POINT}}" word flags
  word="${{line##*[[:space:]]}}"
  case "${{COMP_WORDS[1]}}" in
{cases}
    *) flags="" ;;
  esac
  compopt +o nospace
  if [[ "$word" == --*=* ]]; then
    # Words of bash end at '=': what is completed is the part behind it.
    local value="${{word#*=}}"
    case "${{COMP_WORDS[1]}}:${{word%%=*}}" in
{values}
      *) compopt -o filenames; COMPREPLY=($(compgen -f -- "$value")) ;;
    esac
  elif (( COMP_CWORD == 1 )); then
    COMPREPLY=($(compgen -W "{commands} --help --version --completion=" -- "$word"))
  else
    COMPREPLY=($(compgen -W "$flags" -- "$word"))
    [[ "${{COMPREPLY[0]}}" == *= ]] && compopt -o nospace
  fi
}}
complete -F _jaxrank jaxrank launch.py
"""
_ZSH = """\
#compdef jaxrank launch.py
# Completion of jaxrank for zsh: source <(jaxrank --completion=zsh)
_jaxrank() {{
  local -a commands
  commands=({commands})
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  case "$words[2]" in
{cases}
  esac
}}
compdef _jaxrank jaxrank launch.py
"""


def completion_script(
    shell: str, commands: Mapping[str, str], values: Mapping[str, flags.FlagValues]
) -> str:
    """Returns the completion script that a shell sources.

    Args:
      shell: "bash" or "zsh".
      commands: description of each command, by name.
      values: flags of each command, by name.

    Raises:
      UserError: the shell is unknown.
    """
    makers = {"bash": _bash, "zsh": _zsh}
    if shell not in makers:
        raise UserError(f"--completion={shell}: unknown.{did_you_mean(shell, makers)}")
    return makers[shell](commands, values)


def _bash(commands: Mapping[str, str], values: Mapping[str, flags.FlagValues]) -> str:
    cases, choices = [], []
    for command, defined in values.items():
        words = [f"--{name}" + ("" if defined[name].boolean else "=") for name in sorted(defined)]
        cases.append(f'    {command}) flags="{" ".join(words)}" ;;')
        choices += [
            f"      {command}:--{name}) "
            f'COMPREPLY=($(compgen -W "{" ".join(known)}" -- "$value")) ;;'
            for name in sorted(defined)
            if (known := _choices(defined[name]))
        ]
    return _BASH.format(
        commands=" ".join(commands), cases="\n".join(cases), values="\n".join(choices)
    )


def _zsh(commands: Mapping[str, str], values: Mapping[str, flags.FlagValues]) -> str:
    cases = []
    for command, defined in values.items():
        specs = []
        for name in sorted(defined):
            text = _quoted(" ".join(str(defined[name].help).split())[:60])
            known = _choices(defined[name])
            action = f"({' '.join(known)})" if known else "_files"
            value = "" if defined[name].boolean else f":{name}:{action}"
            equals = "" if defined[name].boolean else "=-"
            specs.append(f"      '--{name}{equals}[{text}]{value}'")
        cases.append(f"    {command}) _arguments -s \\\n" + " \\\n".join(specs) + " ;;")
    described = " ".join(f"'{name}:{_quoted(text)}'" for name, text in commands.items())
    return _ZSH.format(commands=described, cases="\n".join(cases))


def _choices(flag: flags.Flag) -> list[str]:
    return list(flag.parser.enum_values) if isinstance(flag.parser, flags.EnumParser) else []


def _quoted(text: str) -> str:
    """Replaces characters that are special in zsh descriptions by spaces."""
    return "".join(" " if letter in "'[]:\\" else letter for letter in text)
