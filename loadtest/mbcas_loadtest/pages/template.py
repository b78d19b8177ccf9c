"""Templates of pages: all escape what they are given, and share the style sheet `page.css`."""

import jinja2


def template(package: str, name: str) -> jinja2.Template:
    """Loads one of the templates of a package; a name that it does not get is an error."""
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [jinja2.PackageLoader(package), jinja2.PackageLoader("mbcas_loadtest.pages")]
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
