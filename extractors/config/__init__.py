"""The two JSON configuration files and the command line, checked once at start and then frozen.

`db_config.json` says which database, which tables, which area of interest and which dates (`database`), and how to
extract (`extraction`); `s3_config.json` says which store (`store`). They are read in `reading`.
"""

from extractors.config.database import Args, Connection, Database, DatabaseFile, Tables
from extractors.config.extraction import ENGINE_NAMES, OF_CLEAR_ROWS, PARCEL_RULES, SOURCES, Extraction
from extractors.config.options import Options
from extractors.config.reading import read_database_config, read_store_config
from extractors.config.store import Directory, DirectoryFile, Store, StoreFile, parse_endpoint
from extractors.config.values import LONGEST_IDENTIFIER_BYTES, NO_SECRET, TableName, parse_moment, parse_table_name

__all__ = [
    "ENGINE_NAMES",
    "LONGEST_IDENTIFIER_BYTES",
    "NO_SECRET",
    "OF_CLEAR_ROWS",
    "PARCEL_RULES",
    "SOURCES",
    "Args",
    "Connection",
    "Database",
    "DatabaseFile",
    "Directory",
    "DirectoryFile",
    "Extraction",
    "Options",
    "Store",
    "StoreFile",
    "TableName",
    "Tables",
    "parse_endpoint",
    "parse_moment",
    "parse_table_name",
    "read_database_config",
    "read_store_config",
]
