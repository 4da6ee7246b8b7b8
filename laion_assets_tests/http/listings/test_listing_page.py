"""Directory pages of nginx, Apache and other servers, in the formats of their manuals."""

import json
from pathlib import Path

import pytest

from laion_assets.errors import SourceError
from laion_assets.http.listings.listing_page import Entry, parse_links

NGINX_HTML = """<html>
<head><title>Index of /csv/</title></head>
<body>
<h1>Index of /csv/</h1><hr><pre><a href="../">../</a>
<a href="2021-01/">2021-01/</a>                               03-Mar-2021 09:15                   -
<a href="a%20b.csv">a b.csv</a>                               03-Mar-2021 09:15               20481
<a href="%D1%8F&amp;.csv.gz">я&amp;.csv.gz</a>                        13-Mar-2021 09:15                   7
</pre><hr></body>
</html>
"""
NGINX_JSON = json.dumps(
    [
        {"name": "2021-01", "type": "directory", "mtime": "Wed, 03 Mar 2021 09:15:00 GMT"},
        {"name": "a b.csv", "type": "file", "mtime": "Wed, 03 Mar 2021 09:15:00 GMT", "size": 20481},
        {"name": "я&.csv.gz", "type": "file", "mtime": "Sat, 13 Mar 2021 09:15:00 GMT", "size": 7},
    ]
)
NGINX_XML = """<?xml version="1.0"?>
<list>
<directory mtime="2021-03-03T09:15:00Z">2021-01</directory>
<file mtime="2021-03-03T09:15:00Z" size="20481">a b.csv</file>
<file mtime="2021-03-13T09:15:00Z" size="7">я&amp;.csv.gz</file>
</list>
"""
APACHE_PLAIN = """<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 3.2 Final//EN">
<html><head><title>Index of /csv</title></head><body><h1>Index of /csv</h1>
<ul><li><a href="/"> Parent Directory</a></li>
<li><a href="2021-01/"> 2021-01/</a></li>
<li><a href="a%20b.csv"> a b.csv</a></li>
<li><a href="%d1%8f&amp;.csv.gz"> я&amp;.csv.gz</a></li>
</ul></body></html>
"""
APACHE_FANCY = """<html><body><h1>Index of /csv</h1>
<pre><img src="/icons/blank.gif" alt="Icon "> <a href="?C=N;O=D">Name</a>      <a href="?C=M;O=A">Last modified</a>
<hr><img src="/icons/back.gif" alt="[PARENTDIR]"> <a href="/">Parent Directory</a>                             -
<img src="/icons/folder.gif" alt="[DIR]"> <a href="2021-01/">2021-01/</a>                2021-03-03 09:15    -
<img src="/icons/text.gif" alt="[TXT]"> <a href="a%20b.csv">a b.csv</a>                 2021-03-03 09:15   20K
<img src="/icons/compressed.gif" alt="[   ]"> <a href="%d1%8f&amp;.csv.gz">я&amp;.csv.gz</a> 2021-03-13 09:15    7
<hr></pre></body></html>
"""
APACHE_TABLE = """<html><body><table id="indexlist">
<tr class="indexhead"><th class="indexcolname"><a href="?C=N;O=D">Name</a></th><th><a href='?C=S;O=A'>Size</a></th></tr>
<tr class="even"><td class="indexcolname"><a href="/">Parent Directory</a></td><td>&nbsp;</td></tr>
<tr class="odd"><td class="indexcolname"><a href="2021-01/">2021-01/</a></td><td class="indexcolsize">  - </td></tr>
<tr class="even"><td class="indexcolname"><a class="f" href="a%20b.csv" title="a b.csv">a b</a></td><td>20K</td></tr>
<TR><TD><A HREF='%d1%8f&amp;.csv.gz'>я&amp;.csv.gz</A></TD></TR>
<!-- <a href="hidden.csv">not a link</a> -->
</table></body></html>
"""
NAMES = ["2021-01/", "a%20b.csv", "%D1%8F&.csv.gz"]
SIZES = [-1, 20481, 7]


def names(page: str, kind: str = "text/html") -> list[str]:
    """Return the links of a page without parents and sorting links, percent-encodings in upper case."""
    hrefs = [entry.href for entry in parse_links(page, kind, "http://h/csv/")]
    hrefs = [href.replace("%d1%8f", "%D1%8F").replace("%26", "&") for href in hrefs]
    return [href for href in hrefs if not href.startswith(("?", "/", ".."))]


@pytest.mark.parametrize(
    ("page", "kind"),
    [
        (NGINX_HTML, "text/html"),
        (NGINX_JSON, "application/json"),
        (NGINX_JSON, "text/plain"),
        (f"callback({NGINX_JSON});", "application/javascript"),
        (NGINX_XML, "text/xml; charset=utf-8"),
        (APACHE_PLAIN, "text/html;charset=UTF-8"),
        (APACHE_FANCY, "text/html;charset=UTF-8"),
        (APACHE_TABLE, "text/html;charset=UTF-8"),
    ],
    ids=["nginx", "nginx-json", "json-as-text", "nginx-jsonp", "nginx-xml", "apache", "apache-fancy", "apache-table"],
)
def test_all_formats_list_the_same_files(page: str, kind: str) -> None:
    assert names(page, kind) == NAMES


@pytest.mark.parametrize(
    ("page", "kind"), [(NGINX_HTML, "text/html"), (NGINX_JSON, "application/json"), (NGINX_XML, "")]
)
def test_sizes_of_nginx_are_exact(page: str, kind: str) -> None:
    sizes = [entry.size for entry in parse_links(page, kind, "") if entry.href != "../"]
    assert sizes == SIZES


def test_rounded_sizes_of_apache_are_ignored() -> None:
    assert {entry.size for entry in parse_links(APACHE_FANCY + APACHE_TABLE, "text/html", "")} == {-1}


def test_page_of_python_http_server(tmp_path: Path) -> None:
    import http.server
    import threading
    import urllib.request

    for name in ("a b.csv", "é.csv"):
        (tmp_path / name).write_text("")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(tmp_path))  # type: ignore[arg-type]

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_address[1]}/", timeout=10) as answer:
            page = answer.read().decode()
    assert list(parse_links(page, "text/html", "")) == [Entry("a%20b.csv"), Entry("%C3%A9.csv")]


@pytest.mark.parametrize(
    "body", ['{"error": 1}', "[1]", '[{"type": "file"}]', '[{"name": 3}]', "[", '[{"name": null}]']
)
def test_json_that_is_not_a_listing_is_refused_naming_the_url(body: str) -> None:
    with pytest.raises(SourceError, match="The JSON of http://h/csv/ is not a directory listing"):
        list(parse_links(body, "application/json", "http://h/csv/"))


def test_names_in_json_are_quoted_and_cannot_become_other_links() -> None:
    page = json.dumps([{"name": name, "type": "file"} for name in ("../x.csv", "http://h/x.csv", "?x.csv", "a#b.csv")])
    hrefs = [entry.href for entry in parse_links(page, "application/json", "")]
    assert hrefs == ["..%2Fx.csv", "http%3A%2F%2Fh%2Fx.csv", "%3Fx.csv", "a%23b.csv"]
