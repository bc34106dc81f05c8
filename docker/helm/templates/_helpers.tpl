{{- define "difftune.name" -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "difftune.labels" -}}
app.kubernetes.io/name: difftune
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "difftune.selector" -}}
app.kubernetes.io/name: difftune
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "difftune.image" -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- define "difftune.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "difftune.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "difftune.environment" -}}
- {name: DIFFTUNE_SECRETS_DIR, value: /run/secrets/difftune}
- {name: DIFFTUNE_STORE_URL, value: {{ .Values.store.url | quote }}}
- {name: DIFFTUNE_S3_REGION, value: {{ .Values.store.region | quote }}}
{{- with .Values.store.endpointUrl }}
- {name: DIFFTUNE_S3_ENDPOINT_URL, value: {{ . | quote }}}
{{- end }}
{{- with .Values.store.publicUrl }}
- {name: DIFFTUNE_S3_PUBLIC_URL, value: {{ . | quote }}}
{{- end }}
- {name: DIFFTUNE_PUBLIC_URL, value: {{ .Values.publicUrl | quote }}}
- {name: DIFFTUNE_STOP_GRACE_S, value: {{ .Values.stopGraceSeconds | quote }}}
- {name: DIFFTUNE_ALIVE_FILE, value: /tmp/alive}
{{- if .Values.metrics.enabled }}
- {name: DIFFTUNE_METRICS_HOST, value: 0.0.0.0}
- {name: DIFFTUNE_METRICS_PORT, value: {{ .Values.metrics.port | quote }}}
{{- end }}
{{- range $name, $value := merge (dict) .Values.settings .Values.otel }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}

{{- define "difftune.mounts" -}}
- {name: secrets, mountPath: /run/secrets/difftune, readOnly: true}
- {name: tmp, mountPath: /tmp}
- {name: data, mountPath: /var/lib/difftune}
{{- end }}

{{- define "difftune.volumes" -}}
- name: secrets
  secret: {secretName: {{ .Values.existingSecret }}, defaultMode: 0440}
- name: tmp
  emptyDir: {sizeLimit: 1Gi}
{{- end }}

{{- define "difftune.alive" -}}
exec:
  command: [sh, -c, 'test -n "$(find /tmp/alive -mmin -1)"']
periodSeconds: 15
timeoutSeconds: 10
failureThreshold: 4
initialDelaySeconds: 60
{{- end }}

{{- define "difftune.annotations" -}}
{{- if .Values.metrics.enabled }}
prometheus.io/scrape: "true"
prometheus.io/port: {{ .Values.metrics.port | quote }}
{{- end }}
{{- end }}
