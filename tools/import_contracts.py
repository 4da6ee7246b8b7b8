"""Contracts of import-linter that it does not bring along. `[tool.importlinter]` in pyproject.toml names them."""

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class StagesContract(Contract):
    """A stage imports only the public modules of another stage: its handle and its description.

    `package` holds a package for each stage, `public_modules` are the names of those modules. Imports for type checking
    count.
    """

    package = fields.StringField()
    public_modules = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Find imports between stages."""
        package = str(self.package)
        stages = {child for child in graph.find_children(package) if graph.find_children(child)}
        violations = []
        for importer in graph.modules:
            for imported in graph.find_modules_directly_imported_by(importer):
                ours, theirs = _find_stage(importer, stages), _find_stage(imported, stages)
                if ours and theirs and ours != theirs and imported.removeprefix(f"{theirs}.") not in self._public():
                    violations.append(f"{importer} -> {imported}")
        return ContractCheck(kept=not violations, metadata={"violations": sorted(violations)})

    def _public(self) -> list[str]:
        return [str(name) for name in self.public_modules]  # type: ignore[attr-defined]

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print the imports that are not allowed."""
        for violation in check.metadata["violations"]:
            output.print_error(violation, bold=False)


class NoCyclesContract(Contract):
    """No module imports itself through others, not even for type checking."""

    package = fields.StringField()

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Find cycles: for each module, the shortest chain back to it."""
        cycles = set()
        for module in graph.modules:
            if not module.startswith(f"{self.package}."):
                continue
            for imported in graph.find_modules_directly_imported_by(module):
                if chain := graph.find_shortest_chain(imported, module):
                    start = chain.index(min(chain))
                    cycles.add(" -> ".join((*chain[start:], *chain[:start], chain[start])))
        return ContractCheck(kept=not cycles, metadata={"cycles": sorted(cycles)})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print the cycles."""
        for cycle in check.metadata["cycles"]:
            output.print_error(cycle, bold=False)


def _find_stage(module: str, stages: set[str]) -> str | None:
    return next((stage for stage in stages if module == stage or module.startswith(f"{stage}.")), None)
