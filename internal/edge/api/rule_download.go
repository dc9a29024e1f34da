package api

import "context"

type downloadRuleFileReply struct {
	envelope
	FileName    string `json:"file_name"`
	FileContent string `json:"file_content"`
}

// downloadRuleFile returns the caller's verification file. Contract: rules §1.6.
func (a *API) downloadRuleFile(_ context.Context, c *call, _ *fields) (any, error) {
	file, err := a.Rules.ConfirmFile(c.caller)
	return downloadRuleFileReply{envelope: success, FileName: file.Name, FileContent: file.Content}, err
}
