-- A table of artists, made only where the one named by --table is missing and the user agrees.
-- {table} is put in as a quoted identifier.

create table {table} (
    id   text primary key,
    name text not null,
    bio  text
);
