"""Let docstrings be written plainly: names in single backticks, formulas with bars, and no other markup.

Sphinx reads docstrings as reStructuredText, where a single backtick is a role and `|x|` a substitution. Before it does, names in
single backticks become literals and bars are escaped.
"""

import re

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
    block = None
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if block is not None and line.strip() and indent <= block:
            block = None
        if block is None:
            lines[number] = plain_line(line)
            if line.rstrip().endswith("::"):
                block = indent


def skip_fields(app, what, name, obj, skip, options):
    """Leave out the fields of named tuples: Python documents them as "Alias for field number 0", the class says more."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def setup(app):
    """Register with Sphinx; before napoleon (500), which reads the sections of a docstring."""
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("autodoc-process-docstring", plain, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
