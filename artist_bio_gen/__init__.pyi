from artist_bio_gen.ledger.earlier_file import append_jsonl_response as append_jsonl_response
from artist_bio_gen.ledger.earlier_file import write_jsonl_output as write_jsonl_output
from artist_bio_gen.ledger.reading import open_ledger_lines as open_ledger_lines
from artist_bio_gen.sources import open_source as open_source
from artist_bio_gen.sources.arrow.frames import from_arrow as from_arrow
from artist_bio_gen.sources.arrow.frames import from_pandas as from_pandas
from artist_bio_gen.sources.arrow.frames import from_rows as from_rows
from artist_bio_gen.sources.arrow.frames import to_arrow as to_arrow
from artist_bio_gen.sources.arrow.frames import to_batches as to_batches
from artist_bio_gen.sources.arrow.frames import to_frames as to_frames
from artist_bio_gen.sources.arrow.frames import to_pandas as to_pandas
from artist_bio_gen.sources.arrow.frames import to_reader as to_reader

__version__: str
