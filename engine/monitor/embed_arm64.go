package monitor

import _ "embed"

//go:embed monitor_arm64.gz
var packed string
