-- The program's own tables, in a schema of their own. Nothing is added to the user's tables.

create schema if not exists artist_bio_gen;

create table artist_bio_gen.migrations (
    number     integer primary key,
    name       text not null,
    sha256     text not null,
    applied_at timestamptz not null default now()
);

-- One row for each time the program went to work.
create table artist_bio_gen.runs (
    run        uuid primary key,
    ledger     uuid not null,
    started_at timestamptz not null default now(),
    ended_at   timestamptz,
    exit_code  integer,
    host       text not null,
    pid        integer not null,
    version    text not null,
    settings   jsonb not null,
    counts     jsonb
);

-- The last line of each ledger, moved in the transaction that holds the line. `again_after`:
-- while a run with --again is not finished, bios up to this number count as not yet written anew,
-- and failures before `again_at` count no more. A ledger belongs to one table of artists.
create table artist_bio_gen.heads (
    ledger      uuid primary key,
    seq         bigint not null,
    hash        text not null,
    path        text not null,
    host        text not null,
    table_name  text not null,
    again_after bigint,
    again_input text,
    again_at    timestamptz,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now()
);

-- One commit row for each line, with the line's exact bytes: the ledger can be rebuilt from here.
create table artist_bio_gen.commits (
    ledger        uuid not null,
    seq           bigint not null,
    run           uuid not null,
    artist_id     text not null,
    generation    integer not null,
    input_sha256  text not null,
    prompt_sha256 text not null,
    hash          text not null,
    line          text not null,
    primary key (ledger, seq),
    constraint one_bio_per_generation unique (artist_id, ledger, generation)
);

-- Artists that got no bio, with the latest reason; the attempts of all runs together.
create table artist_bio_gen.failures (
    ledger      uuid not null,
    artist_id   text not null,
    artist_name text not null,
    run         uuid not null,
    kind        text not null,
    reason      text not null,
    attempts    integer not null,
    transient   boolean not null,
    failed_at   timestamptz not null default now(),
    primary key (ledger, artist_id)
);

-- Bios that stood in the user's table when the program wrote its own there.
create table artist_bio_gen.replaced_bios (
    ledger      uuid not null,
    seq         bigint not null,
    artist_id   text not null,
    bio         text not null,
    replaced_at timestamptz not null default now(),
    primary key (ledger, seq, artist_id)
);
