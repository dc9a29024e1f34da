package server

// Each type in this file gives its methods access to only those groups of Server fields that they use. Values of the types in this file
// contain only pointers and are cheap, so each use creates a new value.

// settingsService sets, stores and loads the operator's settings.
type settingsService struct {
	*deps
	chosen *chosen
}

func (s *Server) settings() settingsService {
	return settingsService{&s.deps, &s.chosen}
}

// seeder fills the store from a seed file, empties it, and saves and loads snapshots of it.
type seeder struct {
	*deps
	chosen    *chosen
	secrets   *secrets
	domain    *domain
	emulation *emulation
	scanning  *scanning
	settings  settingsService
}

func (s *Server) seeder() seeder {
	return seeder{&s.deps, &s.chosen, &s.secrets, &s.domain, &s.emulation, &s.scanning, s.settings()}
}

// scanRecords opens the scan log, and counts, ships and deletes scans.
type scanRecords struct {
	*deps
	chosen   *chosen
	secrets  *secrets
	domain   *domain
	scanning *scanning
}

func (s *Server) scans() scanRecords {
	return scanRecords{&s.deps, &s.chosen, &s.secrets, &s.domain, &s.scanning}
}

// access decides which requests are allowed, and records failed credentials.
type access struct {
	*deps
	chosen  *chosen
	secrets *secrets
	domain  *domain
	serving *serving
}

func (s *Server) access() access {
	return access{&s.deps, &s.chosen, &s.secrets, &s.domain, &s.serving}
}

// requests sends outbound HTTP requests.
type requests struct {
	*deps
	chosen    *chosen
	domain    *domain
	emulation *emulation
}

func (s *Server) requests() requests {
	return requests{&s.deps, &s.chosen, &s.domain, &s.emulation}
}

// health reports whether the server can process scans and changes.
type health struct {
	*deps
	domain   *domain
	scanning *scanning
	serving  *serving
	scans    scanRecords
}

func (s *Server) readiness() health {
	return health{&s.deps, &s.domain, &s.scanning, &s.serving, s.scans()}
}
