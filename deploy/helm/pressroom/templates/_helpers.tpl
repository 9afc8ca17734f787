{{- define "pressroom.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 48 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 48 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 48 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* The image that every process runs. */}}
{{- define "pressroom.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end }}

{{/* The labels that select the pods of a component. Arguments: root, component. */}}
{{- define "pressroom.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "pressroom.labels" -}}
{{ include "pressroom.selector" . }}
app.kubernetes.io/version: {{ .root.Values.image.tag | default .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{/* The table of queues as JSON, each with its sizing: `worker`, overridden by the queue's entry in `workers`. */}}
{{- define "pressroom.queues" -}}
{{- $queues := list -}}
{{- range .Files.Get "files/queues.json" | fromJsonArray -}}
{{- $sizing := mergeOverwrite (deepCopy $.Values.worker) (deepCopy (index $.Values.workers .name | default dict)) -}}
{{- $needed := add 10 (coalesce .soft_time_limit .time_limit 50) -}}
{{- $grace := ternary $needed $sizing.terminationGracePeriodSeconds (kindIs "invalid" $sizing.terminationGracePeriodSeconds) -}}
{{- $queues = append $queues (merge (dict "sizing" $sizing "grace" $grace "needed" $needed) .) -}}
{{- end -}}
{{- toJson $queues -}}
{{- end }}

{{/* "yes" if workers are scaled by their queue, else empty. */}}
{{- define "pressroom.scaled" -}}
{{- if ne .Values.autoscaling.provider "none" }}yes{{ end -}}
{{- end }}

{{- define "pressroom.hosts" -}}
{{- $hosts := .Values.site.hosts -}}
{{- if .Values.ingress.enabled }}{{ $hosts = concat $hosts .Values.ingress.hosts }}{{ end -}}
{{- if .Values.httpRoute.enabled }}{{ $hosts = concat $hosts .Values.httpRoute.hosts }}{{ end -}}
{{- toJson $hosts -}}
{{- end }}

{{- define "pressroom.siteUrl" -}}
{{- $hosts := include "pressroom.hosts" . | fromJsonArray -}}
{{- if .Values.site.url -}}
{{- .Values.site.url -}}
{{- else if and .Values.ingress.enabled $hosts -}}
{{- printf "%s://%s" (ternary "https" "http" (ne .Values.ingress.tlsSecret "")) (first $hosts) -}}
{{- else if and .Values.httpRoute.enabled $hosts -}}
{{- printf "https://%s" (first $hosts) -}}
{{- else -}}
{{- printf "http://%s-web.%s.svc" (include "pressroom.fullname" .) .Release.Namespace -}}
{{- end -}}
{{- end }}

{{/* The number of database connections that the whole stack may hold at its largest. */}}
{{- define "pressroom.connections" -}}
{{- $web := ternary .Values.web.autoscaling.maxReplicas .Values.web.replicas .Values.web.autoscaling.enabled -}}
{{- /* A rollout adds one pod. Relay, beat, exporter and migration hold two connections each. */ -}}
{{- $sum := mul (add1 $web) .Values.web.workers .Values.web.threads | add (mul 2 (add 4 .Values.relay.replicas)) -}}
{{- range include "pressroom.queues" . | fromJsonArray -}}
{{- $replicas := ternary .sizing.autoscaling.maxReplicas .sizing.replicas (eq (include "pressroom.scaled" $) "yes") -}}
{{- $sum = add $sum (mul (add1 $replicas) (add 2 (ternary .concurrency (min 10 .concurrency) (has .pool (list "prefork" "solo"))))) -}}
{{- end -}}
{{- $sum -}}
{{- end }}

{{/* The name of a subchart's server, Service and secret. Arguments: root, subchart. */}}
{{- define "pressroom.server" -}}
{{- printf "%s-%s" (first .).Release.Name (last .) | trunc 63 | trimSuffix "-" -}}
{{- end }}
