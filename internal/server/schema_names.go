package server

import (
	"reflect"

	"github.com/danielgtaylor/huma/v2"
)

// schemaNames maps names of Go types to better schema names. The Go names are unclear without their package, or break generated code: the
// code generator ogen fails with Request, and Record is a global type of TypeScript.
var schemaNames = map[string]string{
	"Agreed": "AuthorizationAnswer", "Amount": "DeletionCount", "Assumed": "AssumedRule", "CallListRecord": "CallRecordList",
	"Change": "AuditEntry", "Checked": "AuditVerification", "Difference": "RecountDifference", "Drill": "BackupDrill",
	"Erased": "ErasedScans", "Fault": "AuditFault", "Found": "SearchResult", "Hit": "SearchHit", "Holding": "ComponentGrant",
	"Imported": "ImportResult", "Item": "GS1LinkInput", "Mark": "StatisticsMark", "Matched": "ScanMatch", "Miss": "UnmatchedScans",
	"MoveInput": "ClockInput", "Need": "AbilityNeed", "Notification": "AccountNotification", "Past": "PastScan",
	"Planted": "SeedResult", "Record": "CallRecord",
	"Released": "ReleaseResult", "Request": "ScanRequest", "Step": "ExplanationStep", "Trial": "BehaviourTrial",
	"Turn": "ReplayDifference", "Why": "AlarmEvidence",
}

// newSchemas returns a schema registry whose names are clear without their Go package.
func newSchemas() huma.Registry {
	return huma.NewMapRegistry("#/components/schemas/", func(t reflect.Type, hint string) string {
		name := huma.DefaultSchemaNamer(t, hint)
		if full, ok := schemaNames[name]; ok {
			return full
		}
		return name
	})
}
