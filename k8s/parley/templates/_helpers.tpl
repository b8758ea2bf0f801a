{{/* What the services are: services.json. Fails where values.yaml speaks of services or variables that there are not. */}}
{{- define "parley.facts" -}}
{{- $facts := .Files.Get "services.json" | fromJson -}}
{{- range $name, $_ := .Values.services -}}
  {{- if not (hasKey $facts.services $name) -}}
    {{- fail (printf "services.%s: there is no such service; there are %s" $name (keys $facts.services | sortAlpha | join ", ")) -}}
  {{- end -}}
{{- end -}}
{{- range $variable, $_ := .Values.env -}}
  {{- $isRead := has $variable $facts.variables -}}
  {{- range $_, $fact := $facts.services -}}{{- $isRead = or $isRead (has $variable $fact.variables) -}}{{- end -}}
  {{- if not $isRead -}}{{- fail (printf "env: there is no variable %s; npm run config lists them" $variable) -}}{{- end -}}
{{- end -}}
{{- range $name, $own := .Values.services -}}
  {{- range $variable, $_ := merge (dict) ($own.env | default dict) ($own.secretEnv | default dict) -}}
    {{- if not (or (has $variable $facts.variables) (has $variable (index $facts.services $name).variables)) -}}
      {{- fail (printf "services.%s: it reads no variable %s; npm run config lists them" $name $variable) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $facts | toJson -}}
{{- end -}}

{{- define "parley.name" -}}
{{ .root.Release.Name }}-{{ .name }}
{{- end -}}

{{/* Of all that belongs to one service: dict "root" $ "name" "orders". */}}
{{- define "parley.selector" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end -}}

{{- define "parley.labels" -}}
{{ include "parley.selector" . }}
app.kubernetes.io/part-of: parley
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end -}}

{{- define "parley.image" -}}
{{ .root.Values.image.prefix }}{{ .name }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end -}}

{{/* Of a pod and of each of its containers, as the restricted pod security standard asks. */}}
{{- define "parley.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- define "parley.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
capabilities: { drop: [ALL] }
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{/* The Secret and key of a service's database URL, as JSON. */}}
{{- define "parley.database" -}}
{{- $own := (index .root.Values.services .name | default dict).database | default dict -}}
{{- dict "secret" ($own.secret | default (printf "%s-database" (include "parley.name" .))) "key" ($own.key | default .root.Values.database.key) | toJson -}}
{{- end -}}

{{/* The most pods that a service has, those aside that come and go while it is rolled out. */}}
{{- define "parley.mostReplicas" -}}
{{- $own := index .root.Values.services .name | default dict -}}
{{- $autoscaling := merge (dict) ($own.autoscaling | default dict) .root.Values.autoscaling -}}
{{- ternary $autoscaling.maxReplicas ($own.replicas | default .root.Values.replicas) $autoscaling.enabled -}}
{{- end -}}

{{/*
A new key of ES256 as a JWK: its kid is the argument. genPrivateKey's PEM is the SEC 1 structure (RFC 5915) of P-256,
whose parts have fixed places: the number d of 32 bytes from the 7th on, the point's x from the 57th and y from the 89th.
*/}}
{{- define "parley.newKey" -}}
{{- $der := genPrivateKey "ecdsa" | replace "-----BEGIN EC PRIVATE KEY-----" "" | replace "-----END EC PRIVATE KEY-----" "" | replace "\n" "" | b64dec -}}
{{- $part := dict -}}
{{- range $name, $from := dict "d" 7 "x" 57 "y" 89 -}}
  {{- $_ := set $part $name (substr $from (int (add $from 32)) $der | b64enc | replace "+" "-" | replace "/" "_" | trimAll "=") -}}
{{- end -}}
{{- merge (dict "kty" "EC" "crv" "P-256" "alg" "ES256" "kid" .) $part | toJson -}}
{{- end -}}
