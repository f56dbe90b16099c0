"""The tests of one model stand together, so that a process that has them in a row looks at it once."""


def pytest_collection_modifyitems(items):
    names = {
        item: item.callspec.params["entry"].name for item in items if "entry" in getattr(getattr(item, "callspec", None), "params", {})
    }
    places = [place for place, item in enumerate(items) if item in names]
    first: dict[str, int] = {}
    for place in places:
        first.setdefault(names[items[place]], place)
    for place, item in zip(places, sorted(names, key=lambda item: first[names[item]]), strict=True):
        items[place] = item
