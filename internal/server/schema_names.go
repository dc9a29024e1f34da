package server

import (
	"reflect"

	"github.com/danielgtaylor/huma/v2"
)

// schemaNames are the names of schemas whose Go type needs its package to be understood, or is called like a type that generated code
// knows already: Request breaks ogen, Record is a global type of TypeScript.
var schemaNames = map[string]string{
	"Agreed": "AuthorizationAnswer", "Amount": "DeletionCount", "Assumed": "AssumedRule", "CallListRecord": "CallRecordList",
	"Checked": "AuditVerification", "Difference": "RecountDifference", "Drill": "BackupDrill", "Entry": "AuditEntry",
	"Erased": "ErasedScans", "Fault": "AuditFault", "Found": "SearchResult", "Hit": "SearchHit", "Holding": "ComponentGrant",
	"Imported": "ImportResult", "Item": "GS1LinkInput", "Mark": "StatisticsMark", "Matched": "ScanMatch", "Miss": "UnmatchedScans",
	"MoveInput": "ClockInput", "Need": "AbilityNeed", "Notification": "AccountNotification", "Past": "PastScan",
	"Planted": "SeedResult", "Record": "CallRecord",
	"Released": "ReleaseResult", "Request": "ScanRequest", "Step": "ExplanationStep", "Trial": "BehaviourTrial",
	"Turn": "ReplayDifference", "Why": "AlarmEvidence",
}

// newSchemas returns a registry whose names stand alone.
func newSchemas() huma.Registry {
	return huma.NewMapRegistry("#/components/schemas/", func(t reflect.Type, hint string) string {
		name := huma.DefaultSchemaNamer(t, hint)
		if full, ok := schemaNames[name]; ok {
			return full
		}
		return name
	})
}
