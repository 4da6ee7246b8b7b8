"""A predicate in SQL over the columns of a row, evaluated by DuckDB on one Arrow table at a time.

The text comes from the command line. It is parsed first, and only a single expression over columns, constants and
functions without side effects is accepted: no statement, subquery, window, parameter, or function whose result changes
(`random`, `now`). The connection has no access to files, network or extensions, and its configuration is locked.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from laion_assets.errors import ExportError

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import pyarrow as pa

MAX_CHARS = 100_000
_CONFIG: dict[str, Any] = {
    "threads": 1,  # shards are evaluated in parallel, each in its own connection
    "memory_limit": "512MB",
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "python_enable_replacements": False,  # a table name never means a Python variable
    "preserve_insertion_order": True,
}
_CLASSES = {
    "BETWEEN", "CASE", "CAST", "COLLATE", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION", "LAMBDA",
    "LAMBDA_REF", "OPERATOR", "TYPE",
}  # fmt: skip
_MACROS = ("list_", "array_", "nullif", "split_part", "if", "fdiv", "fmod", "json", "date_add", "md5_number_")
"""Prefixes of DuckDB's macros that only combine the functions below. Others read the catalog or wait (`pg_sleep`)."""
_UNBOUNDED = {"array_resize", "bar", "format", "list_resize", "lpad", "printf", "repeat", "rpad"}
"""Functions whose result may be far larger than their arguments. DuckDB's memory limit does not cover such texts."""
_REFUSED = ("current_", "__internal", "json_serialize_", "json_deserialize_", "json_copy_", "json_group_")


class Predicate:
    """A valid predicate. `columns` are the columns that it reads, in the spelling of the data.

    Raises ExportError that quotes the predicate and lists the columns.
    """

    def __init__(self, text: str, columns: "Mapping[str, pa.DataType]") -> None:
        self.text = text
        self._known = {name.lower(): name for name in columns}
        self._connections = threading.local()
        if len(text) > MAX_CHARS:
            raise ExportError(f"The predicate has {len(text):,} characters; the maximum is {MAX_CHARS:,}.")
        self.columns = self._check(_parse(self))
        self._bind(columns)

    def mask(self, table: "pa.Table") -> "np.ndarray":
        """Return which rows match, (n,) bool. NULL counts as false. Raises ExportError if evaluation fails."""
        import duckdb
        import numpy as np

        if not table.num_rows:
            return np.zeros(0, bool)
        connection = self._connection()
        # A predicate without columns needs a table with rows, too.
        used = table.select(self.columns or table.column_names[:1])
        connection.register("rows", used)
        try:
            # The text was parsed as one expression.
            sql = f"SELECT coalesce(({self.text}\n)::BOOLEAN, false) AS m FROM rows"  # noqa: S608
            found = connection.execute(sql).fetchnumpy()
        except duckdb.Error as error:
            raise self.error(_first_line(error)) from error
        finally:
            connection.unregister("rows")
        return np.asarray(found["m"], dtype=bool)

    def error(self, reason: str) -> ExportError:
        """Build the error for this predicate."""
        return ExportError(
            f"Invalid predicate {self.text[:500]!r}: {reason} Columns: {', '.join(self._known.values())}."
        )

    def _check(self, expression: Any) -> list[str]:
        """Return the columns of a parsed expression. Raises ExportError for what a predicate may not contain."""
        nodes = list(_nodes(expression))
        functions = _pure_functions(self._connection())
        parameters = {name for node in nodes if node["class"] == "LAMBDA" for name in _lambda_parameters(node)}
        columns = []
        for node in nodes:
            kind = node["class"]
            if kind not in _CLASSES:
                raise self.error(
                    f"it has a {kind.lower()}. Write one expression over the columns, without subqueries, statements, "
                    "aggregates or parameters."
                )
            if kind == "FUNCTION":
                name = str(node.get("function_name")).lower()
                if node.get("schema") or node.get("catalog") or name not in functions:
                    raise self.error(
                        f"the function {name} is not available. Functions must depend on their arguments only."
                    )
            if kind == "COLUMN_REF":
                name = ".".join(node["column_names"])
                if name.lower() in self._known:
                    columns.append(self._known[name.lower()])
                elif name not in parameters:
                    raise self.error(f"unknown column {name}.")
        return list(dict.fromkeys(columns))

    def _bind(self, columns: "Mapping[str, pa.DataType]") -> None:
        """Check the types on one row of nulls, so that an error is found before any row is read."""
        import pyarrow as pa

        names = self.columns or list(columns)[:1]
        self.mask(pa.table({name: pa.nulls(1, columns[name]) for name in names}))

    def _connection(self) -> "duckdb.DuckDBPyConnection":
        """Return the connection of this thread."""
        if not hasattr(self._connections, "own"):
            self._connections.own = connect()
        return self._connections.own


def connect() -> "duckdb.DuckDBPyConnection":
    """Open an in-memory database without access to files, network and extensions, with a locked configuration."""
    import duckdb

    connection = duckdb.connect(":memory:", config=_CONFIG)
    connection.execute("SET lock_configuration = true")
    return connection


def _parse(predicate: Predicate) -> Any:
    """Return the syntax tree of the one expression."""
    sql = f"SELECT ({predicate.text}\n)"
    serialized = predicate._connection().execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchall()
    try:
        parsed = json.loads(serialized[0][0])
    except RecursionError:
        raise predicate.error("it is nested too deeply.") from None
    if parsed["error"]:
        raise predicate.error(f"{parsed.get('error_message', 'syntax error')}.")
    statements = parsed["statements"]
    node = statements[0]["node"] if len(statements) == 1 else {}
    extra = ("modifiers", "where_clause", "group_expressions", "having", "sample", "qualify")
    if (
        node.get("type") != "SELECT_NODE"
        or len(node["select_list"]) != 1
        or node["from_table"]["type"] != "EMPTY"
        or node["cte_map"]["map"]
        or any(node[name] for name in extra)
        or not predicate.text.strip()
    ):
        raise predicate.error("it is not one expression. Write a condition such as width >= 512, without a statement.")
    return node["select_list"][0]


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield every expression of a syntax tree."""
    stack = [tree]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            if "class" in value:
                yield value
            stack.extend(reversed(list(value.values())))
        elif isinstance(value, list):
            stack.extend(reversed(value))


def _lambda_parameters(node: dict[str, Any]) -> list[str]:
    return [".".join(each["column_names"]) for each in _nodes(node.get("lhs")) if each["class"] == "COLUMN_REF"] + [
        str(name) for name in node.get("named_parameters") or []
    ]


def _pure_functions(connection: "duckdb.DuckDBPyConnection") -> set[str]:
    """Return the names of scalar functions whose result depends on the arguments only."""
    found = connection.execute(
        "SELECT function_name, bool_and(coalesce(stability, 'CONSISTENT') = 'CONSISTENT'), "
        "bool_and(function_type IN ('scalar', 'macro')), bool_or(function_type = 'macro') "
        "FROM duckdb_functions() GROUP BY 1"
    ).fetchall()
    return {
        name
        for name, pure, scalar, macro in found
        if pure
        and scalar
        and name not in _UNBOUNDED
        and not name.startswith(_REFUSED)
        and (not macro or name.startswith(_MACROS))
    }


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".") + "."
