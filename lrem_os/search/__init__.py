"""The dialect of OpenSearch: request bodies, mappings, answers, client, indices. Nothing else speaks it."""
