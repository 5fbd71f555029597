{{- define "harbour.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "harbour.job" -}}
backoffLimit: 0
template:
  spec:
    restartPolicy: Never
    containers:
    - {name: job, image: test/probe:1, imagePullPolicy: Never, args: {{ toJson . }}}
{{- end }}
