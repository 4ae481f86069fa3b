"""The role of workers: what `swarm/worker_role.sql` grants, for the tables of any configuration."""

import getpass
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import psycopg2.extensions
from psycopg2 import sql

from extractors.config import TableName, read_database_config
from extractors.database.columns import AOI_COLUMNS, CATALOGUE_COLUMNS
from extractors.database.places import PLACES_TABLE
from extractors.database.redo import find_list
from extractors.database.rights import LOG_INSERTED, LOG_UPDATED
from extractors.database.schema import Table
from extractors.errors import ConfigurationError
from extractors.text import say
from operations.lines import Report
from operations.session import EarlyReader, Session
from operations.sql import statement


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
        texts = [grant.as_string(cursor) for grant in grants]
        for grant in grants if report.changes else []:
            cursor.execute(statement("role.grant", grant=grant))
    for text in texts:
        say(f"{'granted' if report.changes else 'would grant'}: {text};")


def _grants(opened: Session, reader: EarlyReader, role: sql.Identifier) -> list[sql.Composed]:
    """What workers need, as what stands behind GRANT."""
    tables = reader.all()
    places = Table(_places(tables.catalogue), "")
    parcel_columns = [column.name for column in tables.parcels.columns.values()]
    with opened.database.transaction("looking where PostGIS is") as cursor:
        cursor.execute(statement("role.surroundings"))
        database, postgis = cursor.fetchone() or ("", "public")
    schemas = {postgis, *(table.name.schema or "public" for table in (tables.catalogue, tables.aois, tables.parcels))}
    schemas |= {table.name.schema or "public" for table in tables.of_results.values()}
    found = [
        sql.SQL("CONNECT, TEMPORARY ON DATABASE {} TO {}").format(sql.Identifier(database), role),
        *(sql.SQL("USAGE ON SCHEMA {} TO {}").format(sql.Identifier(schema), role) for schema in sorted(schemas)),
        sql.SQL("SELECT ON {} TO {}").format(sql.Identifier(postgis, "spatial_ref_sys"), role),
        sql.SQL("SELECT ({}), UPDATE (status) ON {} TO {}").format(
            _names(CATALOGUE_COLUMNS), tables.catalogue.identifier, role
        ),
        sql.SQL("SELECT ({}) ON {} TO {}").format(
            _names([tables.aoi_field, *AOI_COLUMNS]), tables.aois.identifier, role
        ),
        sql.SQL("SELECT ({}) ON {} TO {}").format(_names(parcel_columns), tables.parcels.identifier, role),
        sql.SQL("SELECT, INSERT ({}), UPDATE ({}) ON {} TO {}").format(
            _names(LOG_INSERTED), _names(LOG_UPDATED), tables.log.identifier, role
        ),
        sql.SQL("SELECT (obsid, bucket, prefix) ON {} TO {}").format(places.identifier, role),
    ]
    with opened.database.transaction("looking for the list of scenes to do again") as cursor:
        listed = find_list(cursor, tables.catalogue)
    if not listed.absent:
        found.append(sql.SQL("SELECT, DELETE ON {} TO {}").format(listed.identifier, role))
    for table in tables.of_results.values():
        keys = [table.columns[name].name if name in table.columns else name for name in ("pid", "obsid")]
        found.append(sql.SQL("SELECT ({}), INSERT, DELETE ON {} TO {}").format(_names(keys), table.identifier, role))
    return found


def _places(catalogue: Table) -> TableName:
    return TableName(PLACES_TABLE, catalogue.name.schema)


def _names(names: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _create(opened: Session, role: str, secret: str) -> None:
    # As the server keeps it, so that the password itself is never in a statement, which may be logged.
    with opened.database.transaction(f"making the role {role}") as cursor:
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
