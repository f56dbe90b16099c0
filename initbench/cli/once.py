"""A command that takes an option of one value once: the last of two would win unseen."""

from typing import Any

from typer.core import TyperCommand


class Once(TyperCommand):
    """A command of which an option that holds one value may not be repeated."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Reads the words of a command line."""
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        for parameter in order:
            single = parameter.param_type_name == "option" and not parameter.multiple and not parameter.is_flag  # type: ignore[attr-defined]
            if single and order.count(parameter) > 1:
                ctx.fail(f"{parameter.opts[-1]} is given {order.count(parameter)} times, and only one value can count. Give it once.")
        return super().parse_args(ctx, args)
