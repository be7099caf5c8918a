"""From records to what people read: tables, scorecard, figures, model cards, pages."""
