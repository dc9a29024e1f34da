package server

// The components of a server: each has the groups of fields that it uses, and is made when it is called, so that it sees what a part
// that started meanwhile opened.

// settingsService sets, stores and loads what an operator chooses.
type settingsService struct {
	*deps
	chosen *chosen
}

func (s *Server) settings() settingsService {
	return settingsService{&s.deps, &s.chosen}
}

// seeder fills the store from a seed, empties it, and saves and loads its states.
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

// scanRecords opens, counts, ships and removes the log of scans.
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

// access decides which requests are answered, and notes failed credentials.
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

// requests sends requests to other servers.
type requests struct {
	*deps
	chosen    *chosen
	domain    *domain
	emulation *emulation
}

func (s *Server) requests() requests {
	return requests{&s.deps, &s.chosen, &s.domain, &s.emulation}
}

// health reports whether the server can scan and change.
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
