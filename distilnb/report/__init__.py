"""Reports made from records: tables, scorecard, figures, model cards and pages."""
