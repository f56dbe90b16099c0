"""Which weight initialization should this network use, and why?"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from initbench.api import (
        SignalMonitor,
        build_model,
        check_scheme,
        compare,
        coordinate_check,
        export,
        init_network,
        lint,
        load_probe,
        load_results,
        probe,
        recommend,
        report,
        resume,
        run,
        sweep,
    )

__version__ = "0.1.0"
__all__ = [
    "SignalMonitor",
    "build_model",
    "check_scheme",
    "compare",
    "coordinate_check",
    "export",
    "init_network",
    "lint",
    "load_probe",
    "load_results",
    "probe",
    "recommend",
    "report",
    "resume",
    "run",
    "sweep",
]


def __getattr__(name: str) -> Any:
    """Imports a public function when it is first used, so that `import initbench` costs nothing."""
    if name in __all__:
        from initbench import api

        return getattr(api, name)
    raise AttributeError(f"module 'initbench' has no attribute '{name}'")


def __dir__() -> list[str]:
    """The public names, also those that were not used yet, beside what is imported."""
    return sorted({"__version__", *__all__})
