{{- define "pressroom.fullname" -}}
{{- include "pressroom.checkUpgrade" . -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- include "pressroom.cut" (list (.Values.fullnameOverride | default $full) (include "pressroom.longest" . | int)) -}}
{{- end }}

{{/*
The length to which the prefix of names is cut. Names become labels, which have at most 63 characters: a Job's name does,
and KEDA labels the HPA of a worker `keda-hpa-<name>`.
*/}}
{{- define "pressroom.longest" -}}
{{- $longest := sub 63 (len "-migrate-0123456789") | int -}}
{{- range include "pressroom.table" . | fromJsonArray -}}
{{- $longest = min $longest (sub 63 (len (printf "keda-hpa--worker-%s" .name))) -}}
{{- end -}}
{{- $longest -}}
{{- end }}

{{/* A name within a length. A longer one ends with a hash, so that two of them differ. Arguments: name, length. */}}
{{- define "pressroom.cut" -}}
{{- $name := first . -}}
{{- if gt (len $name) (last .) -}}
{{- $name = printf "%s-%s" (trunc (sub (last .) 7 | int) $name | trimSuffix "-") (sha256sum $name | trunc 6) -}}
{{- end -}}
{{- $name -}}
{{- end }}

{{/* Refuse the values of another version of the chart, which lack what this version's templates use. */}}
{{- define "pressroom.checkUpgrade" -}}
{{- $of := dig "chartVersion" "an earlier version" (.Values.global | default dict) -}}
{{- if and .Release.IsUpgrade (ne $of .Chart.Version) -}}
{{- fail (printf "The values are those of %s of the chart, and this is %s: `helm upgrade --reuse-values` keeps the old chart's defaults. Use --reset-then-reuse-values. If your values file sets global.chartVersion, remove it there." $of .Chart.Version) -}}
{{- end -}}
{{- end }}

{{/*
Seconds after which Kubernetes gives up a rollout, and `helm upgrade --wait` with it. New pods wait for the migration, so
this is longer than the migration may wait.
*/}}
{{- define "pressroom.progressDeadline" -}}
{{- .Values.progressDeadlineSeconds | default (add 600 .Values.migrate.wait) -}}
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

{{/* The table of queues as JSON: that of the values, else this repository's. */}}
{{- define "pressroom.table" -}}
{{- if .Values.queues }}{{ toJson .Values.queues }}{{ else }}{{ .Files.Get "files/queues.json" }}{{ end -}}
{{- end }}

{{/*
The table of queues as JSON, each with its sizing: `worker`, overridden by the queue's entry in `workers`. Of this
repository's table, some queues need more by default.
*/}}
{{- define "pressroom.queues" -}}
{{- $queues := list -}}
{{- $ours := ternary (.Files.Get "files/sizing.json" | fromJson) dict (empty .Values.queues) -}}
{{- range include "pressroom.table" . | fromJsonArray -}}
{{- $sizing := mergeOverwrite (deepCopy $.Values.worker) (deepCopy (index $ours .name | default dict)) (deepCopy (index $.Values.workers .name | default dict)) -}}
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
{{- else if .Values.web.enabled -}}
{{- printf "http://%s-web.%s.svc" (include "pressroom.fullname" .) .Release.Namespace -}}
{{- end -}}
{{- end }}

{{/* The number of database connections that the whole stack may hold at its largest. */}}
{{- define "pressroom.connections" -}}
{{- $web := ternary .Values.web.autoscaling.maxReplicas .Values.web.replicas .Values.web.autoscaling.enabled -}}
{{- /* A rollout adds one pod. Relay, beat, exporter, migration and the watcher of idle pods hold two connections each. */ -}}
{{- $web = ternary (add1 $web) 0 .Values.web.enabled -}}
{{- $sum := mul $web .Values.web.workers .Values.web.threads | add (mul 2 (add 4 (ternary 1 0 .Values.idleFirst.enabled) .Values.relay.replicas)) -}}
{{- range include "pressroom.queues" . | fromJsonArray -}}
{{- $replicas := ternary .sizing.autoscaling.maxReplicas .sizing.replicas (eq (include "pressroom.scaled" $) "yes") -}}
{{- $sum = add $sum (mul (add1 $replicas) (add 2 (ternary .concurrency (min 10 .concurrency) (has .pool (list "prefork" "solo"))))) -}}
{{- end -}}
{{- $sum -}}
{{- end }}

{{/*
The name of a subchart's server, Service and secret. Arguments: root, subchart. The label that a StatefulSet gives its
pods has 63 characters, of which the revision takes 11.
*/}}
{{- define "pressroom.server" -}}
{{- printf "%s-%s" (include "pressroom.cut" (list (first .).Release.Name (sub 51 (len (last .)) | int))) (last .) -}}
{{- end }}

{{/* The IP families of a Service. The cluster's default, unless `global` says otherwise. */}}
{{- define "pressroom.ipFamilies" -}}
{{- $every := .Values.global | default dict -}}
{{- $families := dict -}}
{{- with $every.ipFamilyPolicy }}{{ $_ := set $families "ipFamilyPolicy" . }}{{ end -}}
{{- with $every.ipFamilies }}{{ $_ := set $families "ipFamilies" . }}{{ end -}}
{{- if $families }}{{ toYaml $families }}{{ end -}}
{{- end }}

{{/* The fewest pods of a queue that is scaled. A HorizontalPodAutoscaler leaves a Deployment with 0 pods alone. */}}
{{- define "pressroom.fewest" -}}
{{- max (ternary 1 0 (eq (first .).Values.autoscaling.provider "hpa")) (last .).sizing.autoscaling.minReplicas -}}
{{- end }}

{{/*
The line `replicas`. What is scaled keeps the number of pods that it has: without the line, Kubernetes would take the
field's default, 1, in the upgrade that turns scaling on. A new Deployment has no line. Arguments: root, name, fixed (the
number without scaling), scaled, least (the scaler's minimum).
*/}}
{{- define "pressroom.replicas" -}}
{{- if not .scaled -}}
replicas: {{ .fixed }}
{{- else -}}
{{- $present := lookup "apps/v1" "Deployment" .root.Release.Namespace .name -}}
{{- if $present -}}
replicas: {{ max (int $present.spec.replicas) (int .least) }}
{{- end -}}
{{- end -}}
{{- end }}

{{/*
Refuse a change of the volume of a StatefulSet, which Kubernetes refuses without a reason. Arguments: root (of the
subchart), name, subchart.
*/}}
{{- define "pressroom.checkVolume" -}}
{{- $wanted := .root.Values.persistence -}}
{{- $present := lookup "apps/v1" "StatefulSet" .root.Release.Namespace .name -}}
{{- if $present -}}
{{- $claims := $present.spec.volumeClaimTemplates | default list -}}
{{- $delete := printf "kubectl -n %s delete statefulset %s --cascade=orphan" .root.Release.Namespace .name -}}
{{- if ne (gt (len $claims) 0) $wanted.enabled -}}
{{- fail (printf "%s.persistence.enabled is %v, but the StatefulSet %s was installed with %v, which cannot be changed. To start with no data: `kubectl -n %s delete statefulset %s`, and repeat this command." .subchart $wanted.enabled .name (not $wanted.enabled) .root.Release.Namespace .name) -}}
{{- end -}}
{{- range $claims -}}
{{- $size := .spec.resources.requests.storage -}}
{{- if ne $size (toString $wanted.size) -}}
{{- fail (printf "%s.persistence.size is %v, but the StatefulSet %s was installed with %s, which cannot be changed. Resize the claim, then replace the StatefulSet around its pod, and repeat this command: `kubectl -n %s patch pvc data-%s-0 -p '{\"spec\": {\"resources\": {\"requests\": {\"storage\": \"%v\"}}}}'`, `%s`." $.subchart $wanted.size $.name $size $.root.Release.Namespace $.name $wanted.size $delete) -}}
{{- end -}}
{{- $class := .spec.storageClassName | default "" -}}
{{- if and $wanted.storageClass (ne $class $wanted.storageClass) -}}
{{- fail (printf "%s.persistence.storageClass is %s, but the StatefulSet %s was installed with %q, which cannot be changed. Back up, delete the StatefulSet and its claim, repeat this command, and restore (docs/operations.md)." $.subchart $wanted.storageClass $.name $class) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}
