"""Java and its kin: Maven, Gradle or Ant on the distribution's JDK."""

from __future__ import annotations

import re

from sandbox.images.detect.base import PREFIX, SYSTEM_PATH, Ecosystem, Evidence, Finding, Setup, Step
from sandbox.images.detect.tree import Tree

JAVA_HOME = "/usr/lib/jvm/default-java"
REPOSITORY = f"{PREFIX}/maven"
GRADLE_HOME = f"{PREFIX}/gradle"
_ENV = (("JAVA_HOME", JAVA_HOME), ("PATH", f"{JAVA_HOME}/bin:{SYSTEM_PATH}"))
_SUFFIXES = (".java", ".kt", ".scala", ".groovy")
# The JDK's own list of TLS roots is made by a script of its package; ours are only unpacked. Without network there
# is nothing that it would be needed for.
_TRUST = """[ -e /etc/ssl/certs/java/cacerts ] || {
    mkdir -p /etc/ssl/certs/java
    find /usr/share/ca-certificates -name '*.crt' | sed 's/^/+/' |
        java -Xmx64m -jar /usr/share/ca-certificates-java/ca-certificates-java.jar -storepass changeit > /dev/null
    [ -z "${SSL_CERT_FILE:-}" ] || keytool -importcert -noprompt -trustcacerts -alias build -storepass changeit \\
        -keystore /etc/ssl/certs/java/cacerts -file "$SSL_CERT_FILE" 2> /dev/null || true
}"""
# A release of the distribution carries Maven's own plug-ins as packages; they serve where the central one can't be
# reached, for projects that name no other versions.
_MAVEN = f"""mkdir -p {REPOSITORY}
if mvn -B -q -Dmaven.repo.local={REPOSITORY} dependency:go-offline; then exit 0; fi
echo 'the repository of Maven can not be reached or lacks something: taking the packages of the distribution'
cp -rLn /usr/share/maven-repo/. {REPOSITORY}/"""
_MAVEN_PACKAGES = (
    "default-jdk-headless", "maven", "junit4", "libmaven-clean-plugin-java", "libmaven-compiler-plugin-java",
    "libmaven-install-plugin-java", "libmaven-jar-plugin-java", "libmaven-resources-plugin-java", "libsurefire-java",
)  # fmt: skip


def detect(tree: Tree) -> Finding | None:
    weight = tree.count(*_SUFFIXES)
    if tree.has("pom.xml"):
        return _maven(tree, weight)
    if file := tree.first("build.gradle", "build.gradle.kts", "settings.gradle", "settings.gradle.kts"):
        return _gradle(tree, weight, file)
    if tree.has("build.xml"):
        return _ant(tree, weight)
    return None


def _maven(tree: Tree, weight: int) -> Finding:
    evidence = [Evidence("pom.xml", "a Maven project", "the distribution's JDK and Maven")]
    setup = Setup(
        packages=tuple(sorted(_MAVEN_PACKAGES)),
        steps=(Step("preparing TLS for Java", _TRUST), Step("fetching plug-ins and dependencies", _MAVEN)),
        env=_ENV,
        inputs=tuple(tree.match("pom.xml", "*/pom.xml", ".mvn/*")),
        narrow=True,
    )
    test = f"mvn -B -o -Dmaven.repo.local={REPOSITORY} test"
    return Finding(Ecosystem.JAVA, weight, True, tuple(evidence), setup, "", test)


def _gradle(tree: Tree, weight: int, file: str) -> Finding:
    wrapper = tree.has("gradlew")
    program = "sh ./gradlew" if wrapper else "gradle"
    chosen = "its wrapper" if wrapper else "the distribution's Gradle"
    evidence = [Evidence("gradlew" if wrapper else file, "a Gradle project", f"the distribution's JDK, {chosen}")]
    fetch = f"GRADLE_USER_HOME={GRADLE_HOME} {program} --no-daemon --console=plain testClasses"
    setup = Setup(
        packages=("default-jdk-headless",) if wrapper else ("default-jdk-headless", "gradle"),
        steps=(Step("preparing TLS for Java", _TRUST), Step("fetching Gradle and the dependencies", fetch)),
        env=_ENV,
        inputs=tuple(tree.match("*.gradle", "*.gradle.kts", "gradle*", "*/gradle.properties", "*.toml")),
        narrow=True,
    )
    # Gradle writes to its home even without network, and the image's is read-only
    build = f"cp -a --update {GRADLE_HOME} /tmp/ 2> /dev/null"
    test = f"GRADLE_USER_HOME=/tmp/gradle {program} --offline --no-daemon --console=plain test"
    return Finding(Ecosystem.JAVA, weight, True, tuple(evidence), setup, build, test)


def _ant(tree: Tree, weight: int) -> Finding:
    text = tree.text("build.xml")
    target = "test" if re.search(r"<target[^>]*name=\"test\"", text) else "check" if 'name="check"' in text else ""
    evidence = [Evidence("build.xml", "an Ant project", "the distribution's JDK, Ant and JUnit")]
    packages = ("ant", "ant-optional", "default-jdk-headless", "junit4")
    return Finding(Ecosystem.JAVA, weight, True, tuple(evidence), Setup(packages=packages, env=_ENV), "",
                   f"ant {target}".strip())  # fmt: skip
