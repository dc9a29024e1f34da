package client

// The services of a Client, one per resource. The zero values of the services are not usable.
type (
	// WireService calls the platform's wire API for the account in the client's options. The calls of WireService also work with
	// the real platform.
	WireService struct{ *transport }
	// AccountsService manages accounts, their members, quota and appearance.
	AccountsService struct{ *transport }
	// LinksService manages the links between service accounts and Mini Programs.
	LinksService struct{ *transport }
	// RulesService manages the rules of all accounts for an operator, without the accounts' tokens.
	RulesService struct{ *transport }
	// VerificationsService lists and runs checks of verification files.
	VerificationsService struct{ *transport }
	// DomainsService manages the hosts that an operator trusts or denies.
	DomainsService struct{ *transport }
	// BatchesService manages batches of codes and imports of codes.
	BatchesService struct{ *transport }
	// CodesService reads and changes the codes of a batch.
	CodesService struct{ *transport }
	// OrdersService manages applications for codes that need an approval.
	OrdersService struct{ *transport }
	// PackagesService manages packages of codes for printers.
	PackagesService struct{ *transport }
	// ComponentsService manages third-party platforms.
	ComponentsService struct{ *transport }
	// ConsentsService grants the authorisation requests of third-party platforms.
	ConsentsService struct{ *transport }
	// EmulatorService controls the emulator: clock, faults, seed and snapshots.
	EmulatorService struct{ *transport }
	// SettingsService reads and changes the settings of the server.
	SettingsService struct{ *transport }
	// ScanKeysService manages the scan keys of apps.
	ScanKeysService struct{ *transport }
	// AdminKeysService manages the keys of programs that call the admin API.
	AdminKeysService struct{ *transport }
	// PeopleService manages the users of the console.
	PeopleService struct{ *transport }
	// ScansService resolves links and codes and reads the recorded scans.
	ScansService struct{ *transport }
	// ScanNodesService manages the nodes whose journals may contain scans that are not yet in the scan log.
	ScanNodesService struct{ *transport }
	// StatisticsService reads the statistics of scans.
	StatisticsService struct{ *transport }
	// ChartsService manages shared links to charts of statistics.
	ChartsService struct{ *transport }
	// AlarmsService manages alarms about codes that are probably copied.
	AlarmsService struct{ *transport }
	// CallsService reads the log of wire API calls.
	CallsService struct{ *transport }
	// DeviationsService lists calls that the server accepted but the platform may reject.
	DeviationsService struct{ *transport }
	// BehavioursService lists the server's behaviours in cases where the platform might differ.
	BehavioursService struct{ *transport }
	// AuditLogService reads and verifies the audit log.
	AuditLogService struct{ *transport }
	// GS1Service manages the links of GS1 keys.
	GS1Service struct{ *transport }
	// WebhooksService manages webhooks and their deliveries.
	WebhooksService struct{ *transport }
	// ArchiveService exports the whole state and records restore drills.
	ArchiveService struct{ *transport }
	// LakeService compares the lake with the scan log.
	LakeService struct{ *transport }
)
