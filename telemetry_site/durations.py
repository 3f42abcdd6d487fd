"""How long something took or has waited, in words."""


def in_words(seconds: float) -> str:
    """The two largest units: 8 s, 3 min 20 s, 2 h 5 min, 4 d 1 h."""
    whole = max(0, int(seconds))
    for size, unit, smaller, part in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller} {part}"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"
