"""A portal in another language: it registers a student with the .proto files only.

    client.py --target 127.0.0.1:7450 --protos proto --student S000001

Needs grpcio and grpcio-tools. The stubs are generated into a temporary folder, as any client would do. Prints its steps,
a line each, and exits with 0 if every answer keeps the contract.
"""

import argparse
import importlib
import pathlib
import sys
import tempfile
import uuid

import grpc
import grpc_tools
from grpc_tools import protoc

DEADLINE_S = 30
WAIT_MS = 10_000
# A generated campus has rules: not every section is open to every student, but most are to some.
SECTIONS_TRIED_MAX = 50


def generate(protos: pathlib.Path, out: str) -> None:
    """Compiles the .proto files and makes the stubs importable."""
    files = sorted(str(path.relative_to(protos)) for path in protos.glob("matricula/*/v1/*.proto"))
    well_known = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    arguments = ["protoc", f"-I{protos}", f"-I{well_known}", f"--python_out={out}", f"--grpc_python_out={out}"]
    if protoc.main([*arguments, *files]) != 0:
        raise SystemExit("the .proto files do not compile")
    sys.path.insert(0, out)


class Portal:
    """The calls that a portal makes."""

    def __init__(self, target: str, student: str):
        self.messages = importlib.import_module("matricula.registration.v1.registration_pb2")
        self.catalog_messages = importlib.import_module("matricula.catalog.v1.catalog_pb2")
        services = importlib.import_module("matricula.registration.v1.registration_pb2_grpc")
        catalogs = importlib.import_module("matricula.catalog.v1.catalog_pb2_grpc")
        channel = grpc.insecure_channel(target)
        self.registrations = services.RegistrationServiceStub(channel)
        self.catalog = catalogs.CatalogServiceStub(channel)
        self.student = student
        common = importlib.import_module("matricula.common.v1.common_pb2")
        self.closed_section = common.REASON_CLOSED_SECTION

    def open_sections(self) -> dict[str, int]:
        """The sections with free seats, each with the version that was seen."""
        request = self.catalog_messages.ListSectionsRequest(page_size=1000)
        sections = self.catalog.ListSections(request, timeout=DEADLINE_S).sections
        return {s.section_id: s.availability.version for s in sections if s.availability.free > 0 and not s.cancelled}

    def submit(self, key: str, section: str, seen: dict[str, int] = {}):
        request = self.messages.SubmitRegistrationRequest(
            idempotency_key=key, student_id=self.student, adds=[section], wait_ms=WAIT_MS
        )
        for section_id, version in seen.items():
            request.seen_versions.add(section_id=section_id, version=version)
        return self.registrations.SubmitRegistration(request, timeout=DEADLINE_S).registration

    def watch(self, registration_id: str) -> list:
        request = self.messages.WatchRegistrationRequest(registration_id=registration_id)
        return [answer.registration for answer in self.registrations.WatchRegistration(request, timeout=DEADLINE_S)]

    def list(self) -> list:
        request = self.messages.ListRegistrationsRequest(student_id=self.student)
        return list(self.registrations.ListRegistrations(request, timeout=DEADLINE_S).registrations)

    def outcome(self, registration) -> str:
        return self.messages.Outcome.Name(registration.outcome).removeprefix("OUTCOME_")


def expect(holds: bool, what: str) -> None:
    if not holds:
        raise SystemExit(f"not as promised: {what}")


def enroll(portal: Portal) -> tuple[str, str, object]:
    """Tries sections until the rules let the student into one."""
    sections = portal.open_sections()
    expect(bool(sections), "the catalogue has open sections")
    for section, version in list(sections.items())[:SECTIONS_TRIED_MAX]:
        key = f"python-{uuid.uuid4()}"
        registration = portal.submit(key, section, {section: version})
        outcome = portal.outcome(registration)
        print(f"submitted {section}: {outcome}")
        if outcome == "ENROLLED":
            return key, section, registration
        expect(outcome == "REFUSED", "a registration ends within the wait")
        expect(all(reason.message for reason in registration.reasons), "every reason has a sentence for the student")
        expect(len(registration.reasons) > 0, "a refusal has its reasons")
        closed = [reason for reason in registration.reasons if reason.reason == portal.closed_section]
        expect(all(reason.seen.version == version for reason in closed), "who saw it open is told what has happened since")
    raise SystemExit("no section let the student in")


def run(portal: Portal) -> None:
    key, section, registration = enroll(portal)
    again = portal.submit(key, section)
    expect(again == registration, "the same key and body return the same registration")
    print("submitted again: the same registration")

    try:
        portal.submit(key, section + "x")
        expect(False, "the same key with another body is refused")
    except grpc.RpcError as error:
        expect(error.code() == grpc.StatusCode.ALREADY_EXISTS, f"ALREADY_EXISTS, not {error.code()}")
    print("submitted another body: ALREADY_EXISTS")

    seen = portal.watch(registration.registration_id)
    expect(len(seen) > 0 and portal.outcome(seen[-1]) == "ENROLLED", "a watch ends with the outcome")
    print("watched: ENROLLED")

    ids = [listed.registration_id for listed in portal.list()]
    expect(registration.registration_id in ids, "the registration is listed")
    print(f"listed: {len(ids)} registrations")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", required=True)
    parser.add_argument("--protos", required=True, type=pathlib.Path)
    parser.add_argument("--student", required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as out:
        generate(arguments.protos, out)
        run(Portal(arguments.target, arguments.student))


if __name__ == "__main__":
    main()
