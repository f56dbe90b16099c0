"""What the commands have in common: an option of one value is given once, and help that says what a value is by its word alone."""

from typing import Any

from typer.core import TyperCommand, TyperGroup


class InWords:
    """A command or a group whose help shows the words that stand for values, such as FOLDER, and no types of Python beside them."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters as the help shows them."""
        found: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for parameter in found:
            parameter.display_type = lambda _: ""
        return found


class Group(InWords, TyperGroup):
    """Commands below a name."""


class Once(InWords, TyperCommand):
    """A command of which an option that holds one value may not be repeated: the last of two would win unseen."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Reads the words of a command line."""
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        for parameter in order:
            single = parameter.param_type_name == "option" and not parameter.multiple and not parameter.is_flag  # type: ignore[attr-defined]
            if single and order.count(parameter) > 1:
                ctx.fail(f"{parameter.opts[-1]} is given {order.count(parameter)} times, and only one value can count. Give it once.")
        return super().parse_args(ctx, args)
