"""Let docstrings be written plainly: names in single backticks, formulas with bars, and no other markup.

Sphinx reads docstrings as reStructuredText, where a single backtick is a role, `|x|` a substitution and a letter with a full stop the
first item of a list. Before it does, names in single backticks become literals, bars and such letters are escaped, and parameters
that share a line (`low, high: ...`) get one each.
"""

import re

SHARED = re.compile(r"^(\s+)(\*{0,2}\w+(?:, \*{0,2}\w+)+): (.*)$")
LETTER = re.compile(r"^(\s+\w+: )(\w\.(?: .*)?)$")
LITERAL = re.compile(r"``.+?``|(?<![:`\w])`([^`\n]+)`(?!`)")


def plain_line(line):
    """Return one line of a docstring as reStructuredText."""
    pieces, end = [], 0
    for match in LITERAL.finditer(line):
        pieces += [line[end : match.start()].replace("|", r"\|"), f"``{match[1]}``" if match[1] else match[0]]
        end = match.end()
    return "".join(pieces) + line[end:].replace("|", r"\|")


def plain(app, what, name, obj, options, lines):
    """Rewrite a docstring in place, leaving indented blocks after `::` alone."""
    lines[:] = apart(lines)
    block = None
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if block is not None and line.strip() and indent <= block:
            block = None
        if block is None:
            lines[number] = plain_line(line)
            if line.rstrip().endswith("::"):
                block = indent


def apart(lines):
    """Return the lines with one entry for each of the parameters that share one, and single letters escaped."""
    found, rest = [], list(lines)
    while rest:
        line = rest.pop(0)
        shared = SHARED.match(line)
        if not shared:
            found.append(LETTER.sub(r"\1\\\2", line))
            continue
        space, names, words = shared.groups()
        more = []
        while rest and rest[0].startswith(space + " "):
            more.append(rest.pop(0))
        for name in names.split(", "):
            found += [f"{space}{name}: {words}", *more]
    return found


def skip_fields(app, what, name, obj, skip, options):
    """Leave out the fields of named tuples: Python documents them as "Alias for field number 0", the class says more."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def setup(app):
    """Register with Sphinx; before napoleon (500), which reads the sections of a docstring."""
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("autodoc-process-docstring", plain, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
