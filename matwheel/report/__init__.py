"""Tables for the terminal, figures for papers, and pages for a browser, made from the files of finished runs."""
