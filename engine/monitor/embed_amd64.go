package monitor

import _ "embed"

//go:embed monitor_amd64.gz
var packed string
