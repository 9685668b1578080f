from artist_bio_gen.cli.main import main

main()
