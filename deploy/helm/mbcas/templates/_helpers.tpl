{{- define "mbcas.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains "mbcas" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-mbcas" (.Release.Name | trunc 34 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- define "mbcas.server" -}}{{ include "mbcas.fullname" . }}-server{{- end -}}
{{- define "mbcas.shim" -}}{{ include "mbcas.fullname" . }}-shim{{- end -}}
{{- define "mbcas.release" -}}{{ include "mbcas.fullname" . }}-release{{- end -}}

{{/* What selects the pods of a component: (list $ "server"). */}}
{{- define "mbcas.selector" -}}
app.kubernetes.io/name: mbcas
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "mbcas.labels" -}}
{{ include "mbcas.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: mbcas-{{ (index . 0).Chart.Version }}
{{- end -}}

{{- define "mbcas.image" -}}
{{- $image := index . 1 -}}
{{ $image.repository }}:{{ $image.tag | default (index . 0).Chart.AppVersion }}
{{- end -}}

{{- define "mbcas.serverNames" -}}
{{- $server := include "mbcas.server" . -}}
{{- $namespace := .Release.Namespace -}}
{{- concat (list $server (printf "%s.%s" $server $namespace) (printf "%s.%s.svc" $server $namespace) (printf "%s.%s.svc.%s" $server $namespace .Values.clusterDomain) "localhost") .Values.tls.extraNames | toJson -}}
{{- end -}}

{{/* The Secret with the server's certificate. */}}
{{- define "mbcas.tlsSecret" -}}
{{- if eq .Values.tls.source "existing" -}}
{{- required "tls.existingSecret: needed where tls.source is existing" .Values.tls.existingSecret -}}
{{- else -}}
{{ include "mbcas.server" . }}-tls
{{- end -}}
{{- end -}}

{{- define "mbcas.caConfigMap" -}}
{{- if .Values.tls.caConfigMap -}}
{{ .Values.tls.caConfigMap }}
{{- else if eq .Values.tls.source "chart" -}}
{{ include "mbcas.server" . }}-ca
{{- end -}}
{{- end -}}

{{/* The volume with ca.crt, by which callers know the server. */}}
{{- define "mbcas.caVolume" -}}
name: server-ca
{{- with include "mbcas.caConfigMap" . }}
configMap:
  name: {{ . }}
  items: [{key: ca.crt, path: ca.crt}]
{{- else }}
secret:
  secretName: {{ include "mbcas.tlsSecret" . }}
  items: [{key: ca.crt, path: ca.crt}]
{{- end }}
{{- end -}}

{{/* The volume with a token that only the server takes. */}}
{{- define "mbcas.tokenVolume" -}}
name: mbcas-token
projected:
  sources:
    - serviceAccountToken: {audience: mbcas, expirationSeconds: 3600, path: token}
{{- end -}}

{{- define "mbcas.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "mbcas.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "mbcas.kubeApiEnv" -}}
{{- with .Values.kubeApi }}{{- if .host -}}
- {name: KUBERNETES_SERVICE_HOST, value: {{ .host | quote }}}
- {name: KUBERNETES_SERVICE_PORT, value: {{ .port | quote }}}
{{- end }}{{- end }}
{{- end -}}

{{- define "mbcas.serverAddress" -}}
{{- .Values.shim.serverAddress | default (printf "%s.%s.svc:%v" (include "mbcas.server" .) .Release.Namespace .Values.server.ports.grpc) -}}
{{- end -}}
