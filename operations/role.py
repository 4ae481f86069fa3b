"""The role of workers: what `sql/worker_role.sql` grants, for the tables of any configuration. That script is for psql
as well, where this program does not get in; its GRANTs are the only list of the workers' rights."""

import getpass
import sys
from functools import partial
from pathlib import Path

import psycopg2.extensions
from psycopg2 import sql

from extractors.config import TableName, read_database_config
from extractors.database.places import PLACES_TABLE
from extractors.database.redo import find_list
from extractors.database.schema import Table, find
from extractors.database.sql import statement as shared
from extractors.errors import ConfigurationError
from extractors.text import say
from operations.lines import Report
from operations.session import EarlyReader, Session
from operations.sql import grants_of_workers, statement

PUBLIC = "public"


def grant_rights(opened: Session, reader: EarlyReader, role: str, config: Path | None, report: Report) -> None:
    """Make the role, unless there is one, and give it the rights that workers need. config: the workers' own
    configuration, with the password; None: it is asked for."""
    with opened.database.transaction("looking for the role") as cursor:
        cursor.execute(statement("role.describe"), {"role": role})
        row = cursor.fetchone()
    if row is None:
        secret = _password(role, config) if report.changes else ""
        report.make("role", f"{role}, who may log in", partial(_create, opened, role, secret))
    else:
        is_superuser, may_login = row
        report.there("role", f"{role}{'' if may_login else ', who may not log in'}")
        if is_superuser:
            report.lacks("role", f"{role} is a superuser, so it needs no grants: name another one for workers")
            return
    if reader.parcels.absent:
        report.lacks("rights", "parcels, log and results are not there yet; run this again when they are")
        return
    grants = _grants(opened, reader, sql.Identifier(role))
    with opened.database.transaction("giving the role its rights") as cursor:
        texts = dict.fromkeys(grant.as_string(cursor) for grant in grants)
        for grant in grants if report.changes else []:
            cursor.execute(statement("role.grant", grant=grant))
    for text in texts:
        say(f"{'granted' if report.changes else 'would grant'}: {text};")


def _grants(opened: Session, reader: EarlyReader, role: sql.Identifier) -> list[sql.Composed]:
    """What workers need, as what stands behind GRANT: of the script's, those on tables that there are."""
    tables = reader.all()
    with opened.database.transaction("looking what rights are on") as cursor:
        cursor.execute(statement("role.surroundings"))
        database, postgis = cursor.fetchone() or ("", PUBLIC)
        places = find(cursor, TableName(PLACES_TABLE, tables.catalogue.name.schema), PLACES_TABLE)
        listed = find_list(cursor, tables.catalogue)
    found: dict[str, Table] = {"catalogue": tables.catalogue, "aois": tables.aois, "parcels": tables.parcels}
    found |= {"log": tables.log, **tables.of_results}
    found |= {name: table for name, table in (("places", places), ("redo_list", listed)) if not table.absent}
    names: dict[str, sql.Composable] = {name: table.identifier for name, table in found.items()}
    names |= {
        "worker": role,
        "DBNAME": sql.Identifier(database),
        "postgis": sql.Identifier(postgis),
        "aoi_field": sql.Identifier(tables.aoi_field),
        "parcel_id": sql.Identifier(tables.parcels.columns["id"].name),
        "parcel_geometry": sql.Identifier(tables.parcels.columns["geometry"].name),
    }
    schemas = {table.name.schema or PUBLIC for table in found.values()} | {postgis}
    grants = grants_of_workers(names)
    if PUBLIC not in schemas:
        # It may have been removed, or be another's.
        grants = [grant for grant in grants if next(iter(grant)) != sql.SQL("USAGE ON SCHEMA public TO ")]
    # The script leaves these to whoever runs it.
    usage = sql.SQL("USAGE ON SCHEMA {} TO {}")
    others = sorted(schemas - {PUBLIC, postgis})
    return grants + [usage.format(sql.Identifier(schema), role) for schema in others]


def _create(opened: Session, role: str, secret: str) -> None:
    # As the server keeps it, so that the password itself is never in a statement, which may be logged.
    with opened.database.transaction(f"making the role {role}") as cursor:
        cursor.execute(shared("tables.lock_creation"))
        cursor.execute(statement("role.describe"), {"role": role})
        if cursor.fetchone() is not None:
            # Somebody else was quicker.
            return
        kept = psycopg2.extensions.encrypt_password(secret, role, cursor.connection, "scram-sha-256")
        cursor.execute(statement("role.create", role=sql.Identifier(role)), {"password": kept})


def _password(role: str, config: Path | None) -> str:
    """The password of a role that is to be made, from the workers' configuration or from whoever sits there."""
    if config is not None:
        connection = read_database_config(config).connection
        if connection.dbuser != role or not connection.dbpasswd.get_secret_value():
            raise ConfigurationError(
                f"{config}: database.connection: the password of {role} is looked for there; write {role} as dbuser, "
                "and its password as dbpasswd"
            )
        return connection.dbpasswd.get_secret_value()
    if sys.stdin.isatty():
        secret = getpass.getpass(f"Password of the new role {role}: ")
    else:
        secret = sys.stdin.readline().rstrip("\r\n")
    if not secret:
        raise ConfigurationError(
            f"--role: {role} does not exist, and needs a password to be made: type it, or name the workers' "
            "db_config.json with --role-config"
        )
    return secret
