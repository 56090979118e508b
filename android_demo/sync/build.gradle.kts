import org.jetbrains.kotlin.gradle.dsl.JvmTarget

plugins {
    `java-library`
    alias(libs.plugins.kotlin.jvm)
}

java {
    sourceCompatibility = JavaVersion.VERSION_1_8
    targetCompatibility = JavaVersion.VERSION_1_8
}

kotlin {
    compilerOptions {
        jvmTarget = JvmTarget.JVM_1_8
        optIn.add("dev.pocketrec.internal.PocketRecInternal")
    }
}

dependencies {
    api(project(":core"))
    compileOnly(libs.zstd) // the app brings the one for its platform
    testImplementation(libs.onnxruntime.jvm)
    testImplementation(libs.zstd)
    testImplementation(libs.gson)
    testImplementation(libs.junit)
    testRuntimeOnly(libs.junit.launcher)
    // For the proof in docs/decisions/0016, with no more of its dependencies than its TUF client uses.
    testImplementation("dev.sigstore:sigstore-java:2.0.0") { isTransitive = false }
    testImplementation("com.google.guava:guava:32.0.1-jre")
    testImplementation("org.bouncycastle:bcpkix-jdk18on:1.82")
}

tasks.test {
    useJUnitPlatform()
    systemProperty("pocketrec.vectors", rootDir.resolve("../tests/vectors").path)
}
