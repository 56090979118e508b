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
    implementation(libs.gson)
    compileOnly(libs.coroutines) // for apps that have them
    compileOnly(libs.onnxruntime.jvm) // the app brings the one for its platform
    testImplementation(libs.coroutines)
    testImplementation(libs.onnxruntime.jvm)
    testImplementation(libs.junit)
    testRuntimeOnly(libs.junit.launcher)
}

tasks.test {
    useJUnitPlatform()
    systemProperty("pocketrec.vectors", rootDir.resolve("../tests/vectors").path)
}
